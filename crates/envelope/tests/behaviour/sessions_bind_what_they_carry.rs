//! Prekeys, sessions and headers between one sender and one receiver: custody, replay, revocation, limits.

use std::time::Duration;

use base::limits::{SESSION_INSTANCES_MAX, SESSION_LIFE_MAX};
use base::{
    AeTitle, Attempt, DeliveryId, Digest, InstanceMeta, Name, ObjectId, Phi, Priority, RouteId, Secret,
    Timestamp, Uid,
};
use envelope::{
    BodyContext, BodyMeta, BodyOpener, BodySealer, Commitment, HeaderError, HeaderFields, OpenedHeader,
    Padding, Pinned, PrekeyKind, PrekeySecret, ReceiverSessions, SenderSession, SessionRequest, SessionSpent,
    Suite,
};
use identity::IdentityKey;
use proptest::prelude::*;

const ROUTE: RouteId = RouteId([3; 16]);
const NOW: Timestamp = Timestamp(1_800_000_000_000);

#[test]
fn a_body_is_addressed_again_after_the_receiver_lost_its_keys() {
    for suite in Suite::ALL {
        let mut world = World::new(suite);
        let sealed = Body::seal(suite, 1);
        let mut session = world.session();
        session.opening_known();
        let first = session.next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
        world.restart();
        assert_eq!(world.open(&first.bytes), Err(HeaderError::UnknownSession));
        let mut session = world.session();
        let first = session.next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
        world.restart();
        assert_eq!(world.open(&first.bytes), Err(HeaderError::UnknownPrekey));

        // The same sealed bytes, a new session, a new header.
        let mut session = world.session();
        let again = session.next_header(&world.fields(&sealed, 2), &sealed.key, NOW).unwrap();
        let opened = world.open(&again.bytes).unwrap();
        assert_eq!(opened.attempt, Attempt(2));
        sealed.opens_by(&opened);
    }
}

#[test]
fn a_body_is_addressed_to_a_second_receiver() {
    let first = World::new(Suite::B);
    let mut second = World::new(Suite::B);
    second.receiver = key("second", 7);
    second.restart();
    let sealed = Body::seal(Suite::B, 1);
    for mut world in [first, second] {
        let mut session = world.session();
        let header = session.next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
        sealed.opens_by(&world.open(&header.bytes).unwrap());
    }
}

#[test]
fn one_session_carries_many_bodies_and_shortens_its_headers() {
    let mut world = World::new(Suite::B);
    let mut session = world.session();
    let mut lengths = Vec::new();
    for number in 0..50 {
        let sealed = Body::seal(Suite::B, number);
        let header = session.next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
        assert_eq!(header.sequence, u32::from(number));
        lengths.push(header.bytes.len());
        let opened = world.open(&header.bytes).unwrap();
        assert!(!opened.redelivery);
        sealed.opens_by(&opened);
        session.opening_known();
    }
    assert!(lengths[0] > 4500 && lengths[1] < 350, "{} then {}", lengths[0], lengths[1]);
    assert_eq!(world.receiver_sessions.sessions(), 1);
}

#[test]
fn headers_arrive_in_any_order_and_again() {
    let mut world = World::new(Suite::A);
    let mut session = world.session();
    let bodies: Vec<Body> = (0..4).map(|n| Body::seal(Suite::A, n)).collect();
    let headers: Vec<_> = bodies
        .iter()
        .map(|body| session.next_header(&world.fields(body, 1), &body.key, NOW).unwrap())
        .collect();
    for (at, redelivery) in [(2, false), (0, false), (2, true), (3, false), (0, true), (1, false), (1, true)]
    {
        let opened = world.open(&headers[at].bytes).unwrap();
        assert_eq!((opened.sequence as usize, opened.redelivery), (at, redelivery));
        bodies[at].opens_by(&opened);
    }
}

#[test]
fn a_one_time_prekey_takes_one_session_and_a_last_resort_one_several() {
    let mut world = World::new(Suite::B);
    let sealed = Body::seal(Suite::B, 1);
    for (kind, second) in
        [(PrekeyKind::OneTime, Err(HeaderError::PrekeyUsed)), (PrekeyKind::LastResort, Ok(()))]
    {
        let bundle = world.publish(kind);
        for (number, want) in [(1, Ok(())), (2, second), (3, second)] {
            let mut session = world.session_to(&bundle, 10 * world.published + number);
            let header = session.next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
            assert_eq!(world.open(&header.bytes).map(|_| ()), want, "{kind:?} {number}");
        }
    }
}

#[test]
fn the_pool_says_how_many_prekeys_are_left() {
    let mut world = World::new(Suite::B);
    let bundles: Vec<_> = (0..3).map(|_| world.publish(PrekeyKind::OneTime)).collect();
    world.publish(PrekeyKind::LastResort);
    assert_eq!(world.receiver_sessions.unused(ROUTE, NOW), 3);
    assert_eq!(world.receiver_sessions.unused(RouteId([9; 16]), NOW), 0);
    let sealed = Body::seal(Suite::B, 1);
    let header =
        world.session_to(&bundles[0], 1).next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
    world.open(&header.bytes).unwrap();
    assert_eq!(world.receiver_sessions.unused(ROUTE, NOW), 2);
    assert_eq!(world.receiver_sessions.unused(ROUTE, NOW.after(Duration::from_secs(7200))), 0, "all expired");
}

#[test]
fn a_failed_opening_uses_up_no_prekey() {
    let mut world = World::new(Suite::B);
    let bundle = world.publish(PrekeyKind::OneTime);
    let sealed = Body::seal(Suite::B, 1);
    let stranger = key("sender", 99);
    let request = SessionRequest { sender: &stranger, ..world.request(&bundle) };
    let mut forged = SenderSession::open(&request, NOW, &Secret::new([1; 48])).unwrap();
    let header = forged.next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
    assert_eq!(world.open(&header.bytes), Err(HeaderError::NotPinned));
    let mut honest = world.session_to(&bundle, 2);
    let header = honest.next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
    assert!(world.open(&header.bytes).is_ok());
}

#[test]
fn revoking_a_peer_drops_its_sessions_at_once() {
    let mut world = World::new(Suite::B);
    let sealed = Body::seal(Suite::B, 1);
    let mut session = world.session();
    let first = session.next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
    world.open(&first.bytes).unwrap();

    // Unpinned: refused although the session is remembered ...
    world.pinned = None;
    let next = session.next_header(&world.fields(&sealed, 2), &sealed.key, NOW).unwrap();
    assert_eq!(world.open(&next.bytes), Err(HeaderError::NotPinned));
    // ... and forgotten: a session does not come back when the peer is pinned again.
    world.receiver_sessions.forget_peer(world.sender.fingerprint());
    assert_eq!(world.receiver_sessions.sessions(), 0);
    world.pinned = Some(world.sender.public().clone());
    assert_eq!(world.open(&next.bytes), Err(HeaderError::SessionOver));
    session.opening_known();
    let short = session.next_header(&world.fields(&sealed, 3), &sealed.key, NOW).unwrap();
    assert_eq!(world.open(&short.bytes), Err(HeaderError::UnknownSession));
}

#[test]
fn a_session_that_is_over_does_not_come_back_with_an_empty_replay_table() {
    let mut world = World::new(Suite::B);
    let bundle = world.publish(PrekeyKind::LastResort);
    let sealed = Body::seal(Suite::B, 1);
    let mut session = world.session_to(&bundle, 1);
    let header = session.next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
    let opened = world.open(&header.bytes).unwrap();
    world.receiver_sessions.close(&session.close()).unwrap();
    assert!(world.open(&header.bytes).is_ok(), "a redelivery before it is settled");
    world.receiver_sessions.settled(opened.session, opened.sequence);
    assert_eq!(world.receiver_sessions.sessions(), 0, "closed and settled");
    assert_eq!(world.open(&header.bytes), Err(HeaderError::SessionOver));
}

#[test]
fn a_session_closed_with_gaps_lives_until_its_end() {
    let mut world = World::new(Suite::B);
    let sealed = Body::seal(Suite::B, 1);
    let mut session = world.session();
    let _lost = session.next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
    let header = session.next_header(&world.fields(&sealed, 2), &sealed.key, NOW).unwrap();
    let opened = world.open(&header.bytes).unwrap();
    world.receiver_sessions.close(&session.close()).unwrap();
    for _ in 0..3 {
        world.receiver_sessions.settled(opened.session, opened.sequence);
    }
    assert_eq!(world.receiver_sessions.sessions(), 1, "one header may still come");
    world.receiver_sessions.expire(NOW.after(SESSION_LIFE_MAX));
    assert_eq!(world.receiver_sessions.sessions(), 0);
}

#[test]
fn lives_end_on_both_sides() {
    let mut world = World::new(Suite::B);
    let sealed = Body::seal(Suite::B, 1);
    let mut session = world.session();
    assert_eq!(session.expires(), NOW.after(SESSION_LIFE_MAX));
    let header = session.next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
    assert_eq!(
        session.next_header(&world.fields(&sealed, 2), &sealed.key, session.expires()),
        Err(SessionSpent::Expired)
    );
    world.open(&header.bytes).unwrap();
    assert_eq!(world.receiver_sessions.deadline(), Some(NOW.after(SESSION_LIFE_MAX)));
    let end = NOW.after(SESSION_LIFE_MAX);
    assert_eq!(world.open_at(&header.bytes, end), Err(HeaderError::Expired));
    assert_eq!(world.receiver_sessions.sessions(), 0);
    world.receiver_sessions.expire(end);
    assert_eq!(world.receiver_sessions.deadline(), None);
}

#[test]
fn a_sender_whose_clock_is_a_day_off_still_opens_sessions() {
    let day = Duration::from_secs(24 * 3600);
    for (sender_now, usable) in [
        (Timestamp(NOW.0 - day.as_millis() as u64), true),
        (NOW.after(day), true),
        (NOW.after(day * 2), false),
    ] {
        let mut world = World::new(Suite::B);
        let bundle = world.publish(PrekeyKind::OneTime);
        let sealed = Body::seal(Suite::B, 1);
        match SenderSession::open(&world.request(&bundle), sender_now, &Secret::new([1; 48])) {
            Ok(mut session) => {
                assert!(usable);
                let header = session.next_header(&world.fields(&sealed, 1), &sealed.key, sender_now).unwrap();
                assert!(world.open_at(&header.bytes, NOW).is_ok());
            }
            Err(error) => assert!(!usable, "{error}"),
        }
    }
}

#[test]
fn a_session_carries_as_many_instances_as_it_may() {
    let mut world = World::new(Suite::A);
    let sealed = Body::seal(Suite::A, 1);
    let mut session = world.session();
    let fields = world.fields(&sealed, 1);
    let mut last = None;
    for _ in 0..SESSION_INSTANCES_MAX {
        last = Some(session.next_header(&fields, &sealed.key, NOW).unwrap());
    }
    assert_eq!(session.next_header(&fields, &sealed.key, NOW), Err(SessionSpent::Instances));
    assert!(world.open(&last.unwrap().bytes).is_ok());
}

#[test]
fn a_body_of_another_suite_is_not_addressed() {
    let mut world = World::new(Suite::A);
    let sealed = Body::seal(Suite::B, 1);
    let fields = world.fields(&sealed, 1);
    assert_eq!(
        world.session().next_header(&fields, &sealed.key, NOW),
        Err(SessionSpent::Suite { body: Suite::B, route: Suite::A })
    );
}

#[test]
fn many_sessions_of_one_sender_make_room_at_its_own_cost() {
    let mut world = World::new(Suite::A);
    let sealed = Body::seal(Suite::A, 1);
    let mut headers = Vec::new();
    for number in 0..70u64 {
        let bundle = world.publish(PrekeyKind::OneTime);
        let mut session = world.session_to(&bundle, number as u8);
        let header = session.next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
        world.open_at(&header.bytes, Timestamp(NOW.0 + number)).unwrap();
        headers.push(header);
    }
    assert_eq!(world.receiver_sessions.sessions(), 64);
    assert_eq!(world.open(&headers[0].bytes), Err(HeaderError::SessionOver), "the oldest went");
    assert!(world.open(&headers[69].bytes).is_ok());
}

#[test]
fn removing_a_route_removes_its_prekeys_and_sessions() {
    let mut world = World::new(Suite::B);
    let sealed = Body::seal(Suite::B, 1);
    let mut session = world.session();
    let header = session.next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
    world.open(&header.bytes).unwrap();
    world.publish(PrekeyKind::OneTime);
    world.receiver_sessions.forget_route(ROUTE);
    assert_eq!((world.receiver_sessions.sessions(), world.receiver_sessions.unused(ROUTE, NOW)), (0, 0));
    assert_eq!(world.open(&header.bytes), Err(HeaderError::UnknownPrekey));
}

/// A service keeps these in tasks that move between threads.
#[test]
fn what_a_service_keeps_can_move_between_threads() {
    fn sends<T: Send>() {}
    sends::<BodySealer>();
    sends::<BodyOpener>();
    sends::<SenderSession>();
    sends::<ReceiverSessions>();
    sends::<PrekeySecret>();
}

#[test]
fn what_is_printed_holds_no_key() {
    let mut world = World::new(Suite::B);
    let sealed = Body::seal(Suite::B, 1);
    let mut session = world.session();
    let header = session.next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
    let opened = world.open(&header.bytes).unwrap();
    let text = format!("{opened:?} {session:?} {:?}", world.receiver_sessions);
    assert!(text.contains("content_key: Secret"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_changed_byte_of_a_header_is_refused(known in any::<bool>(), at in any::<prop::sample::Index>(), change in 1u8..) {
        let mut world = World::new(Suite::B);
        let sealed = Body::seal(Suite::B, 1);
        let mut session = world.session();
        if known {
            let first = session.next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap();
            world.open(&first.bytes).unwrap();
            session.opening_known();
        }
        let mut header = session.next_header(&world.fields(&sealed, 2), &sealed.key, NOW).unwrap().bytes;
        let at = at.index(header.len());
        header[at] ^= change;
        prop_assert!(world.open(&header).is_err(), "byte {at}");
    }

    #[test]
    fn any_cut_header_is_refused(at in any::<prop::sample::Index>()) {
        let mut world = World::new(Suite::A);
        let sealed = Body::seal(Suite::A, 1);
        let header = world.session().next_header(&world.fields(&sealed, 1), &sealed.key, NOW).unwrap().bytes;
        prop_assert!(world.open(&header[..at.index(header.len())]).is_err());
    }

    #[test]
    fn random_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut world = World::new(Suite::B);
        prop_assert_eq!(world.open(&bytes), Err(HeaderError::Malformed));
        prop_assert_eq!(world.receiver_sessions.close(&bytes), Err(HeaderError::Malformed));
        let request = SessionRequest { bundle: &bytes, ..world.request(&[]) };
        prop_assert!(SenderSession::open(&request, NOW, &Secret::new([1; 48])).is_err());
    }
}

/// A sender, a receiver, one route between them.
struct World {
    suite: Suite,
    sender: IdentityKey,
    receiver: IdentityKey,
    pinned: Option<identity::IdentityPublic>,
    receiver_sessions: ReceiverSessions,
    published: u8,
}

impl World {
    fn new(suite: Suite) -> Self {
        let (sender, receiver) = (key("sender", 1), key("receiver", 2));
        Self {
            suite,
            pinned: Some(sender.public().clone()),
            receiver_sessions: ReceiverSessions::new(receiver.fingerprint()),
            sender,
            receiver,
            published: 0,
        }
    }

    /// All prekeys and sessions are gone.
    fn restart(&mut self) {
        self.receiver_sessions = ReceiverSessions::new(self.receiver.fingerprint());
    }

    fn publish(&mut self, kind: PrekeyKind) -> Vec<u8> {
        self.published += 1;
        let random = Secret::new([self.published; 32]);
        let secret = PrekeySecret::generate(self.suite, ROUTE, kind, NOW.after(SESSION_LIFE_MAX), random);
        let bundle = secret.bundle(&self.receiver);
        self.receiver_sessions.publish(secret).unwrap();
        bundle
    }

    fn request<'a>(&'a self, bundle: &'a [u8]) -> SessionRequest<'a> {
        SessionRequest {
            bundle,
            recipient: self.receiver.public(),
            sender: &self.sender,
            route: ROUTE,
            suite: self.suite,
        }
    }

    fn session(&mut self) -> SenderSession {
        let bundle = self.publish(PrekeyKind::OneTime);
        self.session_to(&bundle, self.published)
    }

    fn session_to(&self, bundle: &[u8], random: u8) -> SenderSession {
        SenderSession::open(&self.request(bundle), NOW, &Secret::new([random; 48]))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn fields(&self, body: &Body, attempt: u32) -> HeaderFields {
        let destination = Name::parse("archive").unwrap();
        HeaderFields {
            delivery: DeliveryId::derive(self.sender.name(), body.context.object, ROUTE, &destination),
            attempt: Attempt(attempt),
            body: body.context,
            commitment: body.commitment,
        }
    }

    fn open(&mut self, header: &[u8]) -> Result<OpenedHeader, HeaderError> {
        self.open_at(header, NOW)
    }

    fn open_at(&mut self, header: &[u8], now: Timestamp) -> Result<OpenedHeader, HeaderError> {
        let pinned = self.pinned.clone();
        let (suite, name) = (self.suite, self.sender.name().clone());
        let pin = move |route| {
            let identities = vec![pinned.clone().filter(|_| route == ROUTE)?];
            let destination = Name::parse("archive").ok()?;
            Some(Pinned { identities, suite, name: name.clone(), destination })
        };
        self.receiver_sessions.open_header(header, pin, now)
    }
}

struct Body {
    context: BodyContext,
    key: Secret<[u8; 32]>,
    commitment: Commitment,
    sealed: Vec<u8>,
    data: Vec<u8>,
}

impl Body {
    fn seal(suite: Suite, number: u8) -> Self {
        let context = BodyContext { suite, object: ObjectId([number; 16]), profile: Digest::of(b"") };
        let key = Secret::new([number ^ 0x80; 32]);
        let uid = |text| Uid::parse(text).unwrap();
        let title = |text| AeTitle::parse(text).unwrap();
        let meta = BodyMeta {
            instance: InstanceMeta {
                sop_class: uid("1.2.840.10008.5.1.4.1.1.2"),
                sop_instance: Phi::new(uid("2.25.42")),
                transfer_syntax: uid("1.2.840.10008.1.2.1"),
                calling: title("MODALITY"),
                called: title("SLUIS"),
                move_originator: None,
                priority: Priority::Medium,
            },
            uid_hash_key: Secret::new([6; 32]),
        };
        let data = vec![number; 70_000];
        let (mut sealed, mut sealer) = (Vec::new(), BodySealer::new(&context, &key, Padding::Padme, &meta));
        let commitment = sealer.commitment();
        sealer.data(&data, &mut sealed);
        sealer.finish(&mut sealed);
        Self { context, key, commitment, sealed, data }
    }

    /// What the header gave is all that the body takes to open.
    fn opens_by(&self, header: &OpenedHeader) {
        let mut opener = BodyOpener::new(&header.body, &header.content_key, &header.commitment).unwrap();
        let mut sink = Vec::new();
        opener.feed(&self.sealed, &mut sink).unwrap();
        opener.finish(&mut sink).unwrap();
        assert!(sink == self.data);
    }
}

fn key(name: &str, seed: u8) -> IdentityKey {
    IdentityKey::generate(Name::parse(name).unwrap(), &Secret::new([seed; identity::SEEDS_BYTES]))
}
