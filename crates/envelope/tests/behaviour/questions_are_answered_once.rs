//! Questions and answers between one sender and one receiver: binding, replay, lengths, restarts.

use base::limits::SESSION_LIFE_MAX;
use base::{Name, RouteId, Secret, Timestamp};
use envelope::{
    ANSWER_BYTES_MAX, AnswerError, HeaderError, NoQuestion, OpenedQuestion, Pinned, PrekeyKind, PrekeySecret,
    QUESTION_BYTES_MAX, ReceiverSessions, SenderSession, SessionRequest, SessionSpent, Suite,
    refuse_question,
};
use identity::{IdentityKey, IdentityPublic};
use proptest::prelude::*;

const ROUTE: RouteId = RouteId([3; 16]);
const NOW: Timestamp = Timestamp(1_800_000_000_000);

struct World {
    suite: Suite,
    sender: IdentityKey,
    receiver: IdentityKey,
    pinned: Option<IdentityPublic>,
    sessions: ReceiverSessions,
    published: u8,
}

fn key(name: &str, seed: u8) -> IdentityKey {
    IdentityKey::generate(Name::parse(name).unwrap(), &Secret::new([seed; identity::SEEDS_BYTES]))
}

impl World {
    fn new(suite: Suite) -> Self {
        let (sender, receiver) = (key("sender", 1), key("receiver", 2));
        Self {
            suite,
            pinned: Some(sender.public().clone()),
            sessions: ReceiverSessions::new(receiver.fingerprint()),
            sender,
            receiver,
            published: 0,
        }
    }

    fn session(&mut self) -> SenderSession {
        self.published += 1;
        let random = Secret::new([self.published; 32]);
        let until = NOW.after(SESSION_LIFE_MAX);
        let secret = PrekeySecret::generate(self.suite, ROUTE, PrekeyKind::OneTime, until, random);
        let bundle = secret.bundle(&self.receiver);
        self.sessions.publish(secret).unwrap();
        let request = SessionRequest {
            bundle: &bundle,
            recipient: self.receiver.public(),
            sender: &self.sender,
            route: ROUTE,
            suite: self.suite,
        };
        SenderSession::open(&request, NOW, &Secret::new([self.published; 48])).unwrap()
    }

    fn open(&mut self, question: &[u8]) -> Result<OpenedQuestion, HeaderError> {
        self.open_at(question, NOW)
    }

    fn open_at(&mut self, question: &[u8], now: Timestamp) -> Result<OpenedQuestion, HeaderError> {
        let (pinned, suite) = (self.pinned.clone(), self.suite);
        let pin = move |route| {
            let identities = vec![pinned.clone().filter(|_| route == ROUTE)?];
            let name = |text| Name::parse(text).unwrap();
            Some(Pinned { identities, suite, name: name("sender"), destination: name("archive") })
        };
        self.sessions.open_question(question, pin, now)
    }
}

#[test]
fn a_question_and_its_answer_come_as_they_were_and_tell_nothing_by_their_length() {
    for suite in Suite::ALL {
        let mut world = World::new(suite);
        let mut session = world.session();
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        for (question, answer) in [(0, 0), (1, 16_380), (QUESTION_BYTES_MAX, 20_000), (9, ANSWER_BYTES_MAX)] {
            let (question, answer) = (vec![5; question], vec![6; answer]);
            let sealed = session.next_question(&question, NOW).unwrap();
            let opened = world.open(&sealed.bytes).unwrap();
            assert_eq!(opened.plaintext, question);
            assert_eq!((opened.route, opened.sender_fingerprint), (ROUTE, world.sender.fingerprint()));
            let said = opened.answer.seal(&answer).unwrap();
            assert_eq!(sealed.answer.open(&said).unwrap(), answer);
            asked.push(sealed.bytes.len());
            answered.push(said.len() - 17);
            session.opening_known();
        }
        assert_eq!(answered, [16_384, 16_384, 32_768, 49_152]);
        assert!(asked[0] > 4500 && asked[1] < 650 && asked[1..].iter().all(|n| *n == asked[1]), "{asked:?}");
    }
}

#[test]
fn what_is_too_long_is_not_sealed() {
    let mut world = World::new(Suite::B);
    let mut session = world.session();
    let long = vec![0; QUESTION_BYTES_MAX + 1];
    let refused = session.next_question(&long, NOW);
    assert!(matches!(refused, Err(NoQuestion::TooLong(509))), "{refused:?}");
    let sealed = session.next_question(b"?", NOW).unwrap();
    let opened = world.open(&sealed.bytes).unwrap();
    assert!(opened.answer.seal(&vec![0; ANSWER_BYTES_MAX + 1]).is_none());
}

#[test]
fn a_question_is_taken_once_and_none_that_is_older() {
    let mut world = World::new(Suite::B);
    let mut session = world.session();
    let [first, second, third] =
        [b"1", b"2", b"3"].map(|text| session.next_question(text, NOW).unwrap().bytes);
    assert!(world.open(&second).is_ok());
    for old in [&second, &first] {
        assert_eq!(world.open(old).unwrap_err(), HeaderError::Replay);
    }
    assert!(world.open(&third).is_ok());
}

#[test]
fn an_answer_opens_for_its_own_question_only() {
    let mut world = World::new(Suite::A);
    let mut session = world.session();
    let (one, two) = (session.next_question(b"1", NOW).unwrap(), session.next_question(b"2", NOW).unwrap());
    let answer = world.open(&one.bytes).unwrap().answer.seal(b"yes").unwrap();
    assert_eq!(two.answer.open(&answer), Err(AnswerError::Tag));
    assert_eq!(one.answer.open(&answer).unwrap(), b"yes");
    for bad in [&[][..], &[0], &[0, 1, 2], &[2], &[1, 0], &[1, 3, 3], &answer[..answer.len() - 1]] {
        assert_eq!(one.answer.open(bad), Err(AnswerError::Malformed), "{}", bad.len());
    }
    for why in HeaderError::ALL {
        assert_eq!(one.answer.open(&refuse_question(why)), Err(AnswerError::Refused(why)));
    }
}

#[test]
fn who_is_not_pinned_any_more_is_not_heard_and_neither_is_a_session_of_an_earlier_run() {
    let mut world = World::new(Suite::B);
    let mut session = world.session();
    let first = session.next_question(b"?", NOW).unwrap();
    world.open(&first.bytes).unwrap();
    session.opening_known();
    let second = session.next_question(b"?", NOW).unwrap();
    let pinned = world.pinned.take();
    assert_eq!(world.open(&second.bytes).unwrap_err(), HeaderError::NotPinned);
    world.pinned = Some(key("other", 9).public().clone());
    assert_eq!(world.open(&second.bytes).unwrap_err(), HeaderError::NotPinned);
    world.pinned = pinned;
    let later = NOW.after(SESSION_LIFE_MAX);
    assert_eq!(world.open_at(&second.bytes, later).unwrap_err(), HeaderError::Expired);
    let spent = session.next_question(b"?", later);
    assert!(matches!(spent, Err(NoQuestion::Spent(SessionSpent::Expired))), "{spent:?}");
    let mut world = World::new(Suite::B);
    assert_eq!(world.open(&second.bytes).unwrap_err(), HeaderError::UnknownSession);
    assert_eq!(world.open(&first.bytes).unwrap_err(), HeaderError::UnknownPrekey);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_changed_byte_is_refused_on_both_ways(at in any::<prop::sample::Index>(), change in 1u8..) {
        let mut world = World::new(Suite::B);
        let mut session = world.session();
        let sealed = session.next_question(b"what?", NOW).unwrap();
        let mut changed = sealed.bytes.clone();
        let place = at.index(changed.len());
        changed[place] ^= change;
        prop_assert!(world.open(&changed).is_err(), "byte {place}");
        // A changed opening may have cost the prekey nothing: the true one is still taken.
        let mut answer = world.open(&sealed.bytes).unwrap().answer.seal(b"that").unwrap();
        let place = at.index(answer.len());
        answer[place] ^= change;
        prop_assert!(sealed.answer.open(&answer).is_err(), "byte {place}");
    }

    #[test]
    fn random_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        let mut world = World::new(Suite::B);
        prop_assert_eq!(world.open(&bytes).unwrap_err(), HeaderError::Malformed);
        let sealed = world.session().next_question(b"?", NOW).unwrap();
        prop_assert!(sealed.answer.open(&bytes).is_err());
    }
}
