//! What the destinations accept, as their receiving gateways tell it: asked for now and then, verified, kept on disk, and
//! offered to the PACS in place of everything (`negotiate = "mirror"`).

use std::{
    collections::HashMap,
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base::{AeTitle, Fingerprint, RouteId, Timestamp};
use dimse::{ContextChoice, ContextDecision, Mirror, Proposal};
use enquiry::{Answer, Finding, NegotiationTable, NoTable, Question, SignedTable, TableAnswer, TableError};
use identity::IdentityPublic;
use serde_json::{Value, json};
use service::files::{self, Readable};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    app::Shared,
    asks,
    config::Negotiate,
    routes::{Leg, Routes},
    routing::Candidates,
};

/// What is known is asked for again after this time: little passes when nothing has changed.
const REFRESH: Duration = Duration::from_secs(15 * 60);
/// What is not known, or could not be asked for: first and longest pause, doubling.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// How often it is looked whose time has come.
const LOOK: Duration = Duration::from_millis(500);
/// How long a receiver may take to answer.
const WITHIN: Duration = Duration::from_secs(10);

/// What is known of each route's destination.
#[derive(Debug)]
pub struct Tables {
    dir: PathBuf,
    own: Fingerprint,
    // Never held across an await.
    each: Mutex<HashMap<RouteId, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    table: Option<Arc<Believed>>,
    /// There is no table, for this reason.
    none: Option<NoTable>,
    /// How the last question ended.
    last: Option<(Timestamp, Result<(), String>)>,
    /// When to ask next.
    next: Option<Instant>,
    failures: u32,
    /// That everything is offered for want of a table has been said.
    said: bool,
}

/// A table that verified.
#[derive(Debug)]
struct Believed {
    /// Whose signature it bears: another receiver's table counts for nothing.
    receiver: Fingerprint,
    table: NegotiationTable,
    mirror: Mirror,
}

impl Believed {
    fn new(receiver: Fingerprint, table: NegotiationTable) -> Self {
        let pairs = table.findings.may_be_sent().map(|(class, syntax)| (class.clone(), syntax.clone()));
        let mut mirror: Mirror = pairs.collect();
        if table.reencodes {
            mirror = mirror.with_reencoding();
        }
        Self { receiver, table, mirror }
    }
}

impl Tables {
    /// Reads what is kept of these legs.
    pub fn open(dir: &Path, own: Fingerprint, legs: &[Arc<Leg>]) -> Self {
        let tables = Self { dir: dir.to_owned(), own, each: Mutex::default() };
        for leg in legs {
            let table = tables.read(leg).map(Arc::new);
            tables.with(leg.id, |known| known.table = table);
        }
        tables
    }

    /// Decides about what a PACS proposes: what any destination takes of any route that the association may use.
    pub fn decide(&self, candidates: &Candidates, proposal: &Proposal) -> Vec<ContextDecision> {
        let policy = candidates.policy();
        let all = policy.decide(proposal);
        let Some(mirror) = self.offered(candidates) else { return all };
        let mirrored = mirror.decide(proposal, &policy.prefer);
        // What the routes themselves do not take is refused for that reason, whatever the destinations say.
        let both = all.into_iter().zip(mirrored);
        both.map(|(own, mirrored)| match own.choice {
            ContextChoice::Accept(_) => mirrored,
            ContextChoice::Reject(_) => own,
        })
        .collect()
    }

    /// What the destinations take together; nothing, where of one of them it is not known or it takes everything.
    fn offered(&self, candidates: &Candidates) -> Option<Mirror> {
        let mut union: Option<Mirror> = None;
        for route in candidates.routes() {
            if route.negotiate == Negotiate::All {
                return None;
            }
            for leg in route.legs.iter() {
                let known = self.known(leg)?;
                match &mut union {
                    None => union = Some(known.mirror.clone()),
                    Some(union) => {
                        union.extend(
                            known.mirror.pairs().map(|(class, syntax)| (class.clone(), syntax.clone())),
                        );
                    }
                }
            }
        }
        union
    }

    fn known(&self, leg: &Leg) -> Option<Arc<Believed>> {
        let receiver = leg.receiver.id();
        self.with(leg.id, |known| {
            let table = known.table.as_ref().filter(|table| table.receiver == receiver);
            let say = table.is_none() && known.none != Some(NoTable::TakesAll);
            if say && !std::mem::replace(&mut known.said, true) {
                let why = why_none(known);
                warn!(ae = %leg.ae, destination = %leg.destination, why, "what the destination accepts is not known; everything is offered to the PACS");
            }
            table.cloned()
        })
    }

    /// For `status`: one entry for each of these legs.
    pub fn json(&self, legs: &[Arc<Leg>]) -> Vec<Value> {
        legs.iter().map(|leg| self.one_json(leg)).collect()
    }

    fn one_json(&self, leg: &Leg) -> Value {
        let now = Timestamp::now();
        self.with(leg.id, |known| {
            let table = known.table.as_ref().map(|known| &known.table);
            let count = |finding| table.map(|table| table.findings.count(finding));
            json!({
                "ae": leg.ae, "destination": leg.destination,
                "offers": if table.is_some() { "what the destination accepts" } else { "everything" },
                "why": if table.is_some() { None } else { Some(why_none(known)) },
                "age_s": table.map(|table| now.since(table.probed_at).as_secs()),
                "accepted": count(Finding::Accepted), "rejected": count(Finding::Rejected),
                "unknown": count(Finding::Unknown), "reencodes": table.map(|table| table.reencodes),
                "asked_at": known.last.as_ref().map(|(at, _)| service::text::utc(*at)),
                "asking_failed": known.last.as_ref().and_then(|(_, last)| last.as_ref().err().cloned()),
            })
        })
    }

    /// Takes over what the receiver has answered, and decides when to ask again.
    fn heard(&self, leg: &Leg, answer: Result<Answer, String>, now: Timestamp) {
        let (heard, pause) = match answer {
            Ok(Answer::Table(TableAnswer::Unchanged)) => (Ok(()), Some(REFRESH)),
            Ok(Answer::Table(TableAnswer::Table(bytes))) => (self.believe(leg, &bytes), Some(REFRESH)),
            Ok(Answer::Table(TableAnswer::None(why))) => {
                self.with(leg.id, |known| known.none = Some(why));
                (Ok(()), (why != NoTable::NotYet).then_some(REFRESH))
            }
            Ok(_) => (Err("the receiving gateway does not know the question".to_owned()), Some(REFRESH)),
            Err(reason) => (Err(reason), None),
        };
        if let Err(reason) = &heard {
            debug!(ae = %leg.ae, reason, "what the destination accepts could not be heard");
        }
        self.with(leg.id, |known| {
            let pause = match pause.filter(|_| heard.is_ok()) {
                Some(pause) => {
                    known.failures = 0;
                    pause
                }
                None => {
                    known.failures = known.failures.saturating_add(1);
                    let (first, longest) = AGAIN;
                    first.saturating_mul(1 << (known.failures - 1).min(5)).min(longest)
                }
            };
            known.next = Some(Instant::now() + pause);
            known.last = Some((now, heard));
        });
    }

    /// Verifies a table, writes it down and offers it from then on.
    fn believe(&self, leg: &Leg, bytes: &[u8]) -> Result<(), String> {
        let known = self.known_serial(leg);
        let signed = SignedTable::from_bytes(bytes).map_err(|error| error.to_string())?;
        let signers = leg.receiver.identities(Timestamp::now());
        let table = match verified(signers, |receiver| signed.verify(receiver, leg.id, self.own, known)) {
            Ok(table) => table,
            Err(error) => {
                warn!(ae = %leg.ae, receiver = %leg.receiver.name, %error, "negotiation table refused");
                return Err(error.to_string());
            }
        };
        let path = self.path(leg.id);
        files::replace(&path, bytes, Readable::Owner)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        info!(
            ae = %leg.ae, destination = %leg.destination, accepted = table.findings.count(Finding::Accepted),
            rejected = table.findings.count(Finding::Rejected), "the PACS is offered what the destination accepts"
        );
        let believed = Arc::new(Believed::new(leg.receiver.id(), table));
        self.with(leg.id, |known| {
            known.table = Some(believed);
            (known.none, known.said) = (None, false);
        });
        Ok(())
    }

    fn known_serial(&self, leg: &Leg) -> Option<u64> {
        let receiver = leg.receiver.id();
        self.with(leg.id, |known| {
            known.table.as_ref().filter(|table| table.receiver == receiver).map(|table| table.table.serial)
        })
    }

    fn read(&self, leg: &Leg) -> Option<Believed> {
        let path = self.path(leg.id);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(path = %path.display(), %error, "kept negotiation table cannot be read");
                return None;
            }
        };
        let signed = SignedTable::from_bytes(&bytes).map_err(|error| error.to_string());
        let table = signed.and_then(|signed| {
            // It was looked at when it came: keys that have ended since were good then.
            let signers = leg.receiver.all_identities();
            verified(signers, |receiver| signed.verify(receiver, leg.id, self.own, None))
                .map_err(|error| error.to_string())
        });
        // It is asked for again; nothing is lost with it.
        let table = table.inspect_err(
            |error| warn!(ae = %leg.ae, path = %path.display(), error, "kept negotiation table is not used"),
        );
        table.ok().map(|table| Believed::new(leg.receiver.id(), table))
    }

    fn path(&self, route: RouteId) -> PathBuf {
        self.dir.join(format!("accepts-{route}.cbor"))
    }

    fn is_due(&self, route: RouteId) -> bool {
        self.with(route, |known| known.next.is_none_or(|next| next <= Instant::now()))
    }

    fn with<T>(&self, route: RouteId, act: impl FnOnce(&mut Known) -> T) -> T {
        act(self.each.lock().unwrap_or_else(PoisonError::into_inner).entry(route).or_default())
    }
}

/// By any of a receiver's identities; why not, is said of the newest.
fn verified<'a>(
    signers: impl Iterator<Item = &'a IdentityPublic>,
    verify: impl Fn(&IdentityPublic) -> Result<NegotiationTable, TableError>,
) -> Result<NegotiationTable, TableError> {
    let mut first = None;
    for signer in signers {
        match verify(signer) {
            Err(error @ TableError::Signature) => first = first.or(Some(error)),
            decided => return decided,
        }
    }
    Err(first.unwrap_or(TableError::Signature))
}

fn why_none(known: &Known) -> String {
    match (&known.last, known.none) {
        (Some((_, Err(reason))), _) => reason.clone(),
        (_, Some(why)) => why.to_string(),
        _ => "the receiving gateway has not been asked yet".to_owned(),
    }
}

/// The legs of all routes that offer what their destinations accept.
pub fn legs(routes: &Routes) -> Vec<Arc<Leg>> {
    let mirrored = routes.iter().filter(|route| route.negotiate == Negotiate::Mirror);
    mirrored.flat_map(|route| route.legs.iter().cloned().collect::<Vec<_>>()).collect()
}

/// Asks for the table of each mirrored leg when its time has come.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), Infallible> {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = looks.tick() => {}
        }
        for leg in legs(&shared.settings.routes).iter().filter(|leg| shared.tables.is_due(leg.id)) {
            if shared.uplink().is_none() {
                break;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = refresh(&shared, leg) => {}
            }
        }
    }
}

async fn refresh(shared: &Shared, leg: &Leg) {
    let question = Question::Table { known: shared.tables.known_serial(leg) };
    let answer = asks::ask(shared, leg, &question, WITHIN).await;
    let answer = answer.map(|replied| replied.answer).map_err(|error| error.to_string());
    tokio::task::block_in_place(|| shared.tables.heard(leg, answer, Timestamp::now()));
}

/// For `gateway-out mirror`: asks now, and shows what is known.
pub async fn command(shared: &Shared, ask: &Value) -> Result<Value, String> {
    let ae = match ask.get("ae").and_then(Value::as_str) {
        Some(title) => Some(AeTitle::parse(title).map_err(|error| error.to_string())?),
        None => None,
    };
    let routes = &shared.settings.routes;
    if let Some(ae) = ae.as_ref().filter(|ae| !routes.iter().any(|route| route.ae == **ae)) {
        return Err(format!("no [[route]] has the AE title {ae}"));
    }
    let mut mirrored = legs(routes);
    mirrored.retain(|leg| ae.as_ref().is_none_or(|ae| leg.ae == *ae));
    if mirrored.is_empty() {
        return Err(
            "negotiate = \"all\": everything is offered to the PACS, whatever the destination accepts"
                .to_owned(),
        );
    }
    for leg in &mirrored {
        refresh(shared, leg).await;
    }
    Ok(json!({ "mirror": shared.tables.json(&mirrored) }))
}

#[cfg(test)]
mod tests {
    use base::{Name, Secret, Uid};
    use dimse::{ContextRejection, ProposedContext};
    use enquiry::Findings;
    use identity::IdentityKey;

    use super::*;
    use crate::{routes::Legs, testing};

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
    const EXPLICIT: &str = "1.2.840.10008.1.2.1";
    const BASELINE: &str = "1.2.840.10008.1.2.4.50";
    const OWN: Fingerprint = Fingerprint([4; 32]);

    fn receiver(seed: u8) -> IdentityKey {
        IdentityKey::generate(Name::parse("receiver").unwrap(), &Secret::new([seed; identity::SEEDS_BYTES]))
    }

    fn mirrored(receiver: &IdentityKey, id: u8) -> Arc<Leg> {
        let mut leg = testing::leg("GW");
        leg.id = RouteId([id; 16]);
        leg.receiver = receiver.card(identity::CardFields::new(1, &[]));
        Arc::new(leg)
    }

    /// One route to these.
    fn candidates(negotiate: Negotiate, legs: &[&Arc<Leg>]) -> Candidates {
        let mut route = testing::route("GW");
        route.legs = Legs::of(legs.iter().map(|leg| Arc::clone(leg)).collect()).unwrap();
        route.negotiate = negotiate;
        Candidates::new(vec![Arc::new(route)]).unwrap()
    }

    fn uid(text: &str) -> Uid {
        Uid::parse(text).unwrap()
    }

    fn signed(receiver: &IdentityKey, leg: &Leg, serial: u64, accepted: &[(&str, &str)]) -> Vec<u8> {
        let all = [(CT, EXPLICIT), (CT, BASELINE), (MR, EXPLICIT), (MR, BASELINE)];
        let finding = |pair| if accepted.contains(&pair) { Finding::Accepted } else { Finding::Rejected };
        let findings: Findings = all
            .into_iter()
            .map(|(class, syntax)| ((uid(class), uid(syntax)), finding((class, syntax))))
            .collect();
        let probed_at = Timestamp(1);
        let table =
            NegotiationTable { route: leg.id, sender: OWN, serial, probed_at, reencodes: false, findings };
        table.sign(receiver).unwrap().to_bytes()
    }

    /// The choice for each context: its transfer syntax, or the result code.
    fn choices(tables: &Tables, candidates: &Candidates, contexts: &[(&str, &[&str])]) -> Vec<String> {
        let contexts = contexts.iter().zip((1..).step_by(2)).map(|((class, syntaxes), id)| ProposedContext {
            id,
            abstract_syntax: uid(class),
            transfer_syntaxes: syntaxes.iter().map(|syntax| uid(syntax)).collect(),
        });
        let decided = tables.decide(candidates, &testing::proposal(contexts.collect()));
        let choice = |decision: ContextDecision| match decision.choice {
            ContextChoice::Accept(uid) => uid.to_string(),
            ContextChoice::Reject(ContextRejection::AbstractSyntaxNotSupported) => "3".to_owned(),
            ContextChoice::Reject(_) => "4".to_owned(),
        };
        decided.into_iter().map(choice).collect()
    }

    #[test]
    fn the_pacs_is_offered_everything_until_a_table_is_known_and_then_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let key = receiver(1);
        let leg = mirrored(&key, 1);
        let (route, legs) = (candidates(Negotiate::Mirror, &[&leg]), [Arc::clone(&leg)]);
        let tables = Tables::open(dir.path(), OWN, &legs);
        let proposed: &[(&str, &[&str])] =
            &[(CT, &[BASELINE, EXPLICIT]), (CT, &[BASELINE]), (MR, &[EXPLICIT]), ("1.2.3", &[EXPLICIT])];
        let everything = [EXPLICIT, BASELINE, EXPLICIT, EXPLICIT];
        assert_eq!(choices(&tables, &route, proposed), everything);
        tables.believe(&leg, &signed(&key, &leg, 5, &[(CT, EXPLICIT)])).unwrap();
        assert_eq!(choices(&tables, &route, proposed), [EXPLICIT, "4", "3", "3"]);
        // Another process, and no receiver that could be asked.
        let again = Tables::open(dir.path(), OWN, &legs);
        assert_eq!(choices(&again, &route, proposed), [EXPLICIT, "4", "3", "3"]);
        assert_eq!(again.known_serial(&leg), Some(5));
        assert_eq!(again.json(&legs)[0]["accepted"], 1);
        assert_eq!(choices(&again, &candidates(Negotiate::All, &[&leg]), proposed), everything);
    }

    #[test]
    fn of_several_destinations_the_pacs_is_offered_the_union_and_everything_while_one_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let key = receiver(1);
        let (one, two) = (mirrored(&key, 1), mirrored(&key, 2));
        let route = candidates(Negotiate::Mirror, &[&one, &two]);
        let tables = Tables::open(dir.path(), OWN, &[Arc::clone(&one), Arc::clone(&two)]);
        let proposed: &[(&str, &[&str])] = &[(CT, &[EXPLICIT]), (MR, &[EXPLICIT]), (MR, &[BASELINE])];
        tables.believe(&one, &signed(&key, &one, 1, &[(CT, EXPLICIT)])).unwrap();
        assert_eq!(choices(&tables, &route, proposed), [EXPLICIT, EXPLICIT, BASELINE]);
        tables.believe(&two, &signed(&key, &two, 1, &[(MR, EXPLICIT)])).unwrap();
        assert_eq!(choices(&tables, &route, proposed), [EXPLICIT, EXPLICIT, "4"]);
    }

    #[test]
    fn an_older_table_and_one_of_another_receiver_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (key, other) = (receiver(1), receiver(2));
        let leg = mirrored(&key, 1);
        let route = candidates(Negotiate::Mirror, &[&leg]);
        let tables = Tables::open(dir.path(), OWN, &[Arc::clone(&leg)]);
        tables.believe(&leg, &signed(&key, &leg, 5, &[(CT, EXPLICIT)])).unwrap();
        for bad in [
            signed(&key, &leg, 4, &[(MR, EXPLICIT)]),
            signed(&other, &leg, 9, &[(MR, EXPLICIT)]),
            vec![1, 2, 3],
        ] {
            assert!(tables.believe(&leg, &bad).is_err());
            assert_eq!(choices(&tables, &route, &[(CT, &[EXPLICIT]), (MR, &[EXPLICIT])]), [EXPLICIT, "3"]);
        }
        // The route leads to another receiver now: what the first one said counts for nothing.
        let moved = mirrored(&other, 1);
        let route = candidates(Negotiate::Mirror, &[&moved]);
        assert_eq!(choices(&tables, &route, &[(MR, &[EXPLICIT])]), [EXPLICIT]);
        assert_eq!(tables.known_serial(&moved), None);
        tables.believe(&moved, &signed(&other, &moved, 2, &[(MR, EXPLICIT)])).unwrap();
        assert_eq!(choices(&tables, &route, &[(CT, &[EXPLICIT]), (MR, &[EXPLICIT])]), ["3", EXPLICIT]);
    }

    #[tokio::test]
    async fn what_is_not_known_is_asked_for_again_soon_and_what_is_known_seldom() {
        let dir = tempfile::tempdir().unwrap();
        let key = receiver(1);
        let leg = mirrored(&key, 1);
        let tables = Tables::open(dir.path(), OWN, &[]);
        let pause =
            || tables.with(leg.id, |known| known.next.unwrap() - Instant::now()).as_secs_f64().round();
        assert!(tables.is_due(leg.id));
        for want in [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            tables.heard(&leg, Err("no relay is connected".to_owned()), Timestamp(1));
            assert!(!tables.is_due(leg.id));
            assert_eq!(pause(), want);
        }
        let none = |why| Ok(Answer::Table(TableAnswer::None(why)));
        tables.heard(&leg, none(NoTable::Off), Timestamp(1));
        assert_eq!(pause(), 900.0);
        tables.heard(&leg, none(NoTable::NotYet), Timestamp(1));
        assert_eq!(pause(), 2.0);
        tables.heard(&leg, Ok(Answer::Table(TableAnswer::Unchanged)), Timestamp(1));
        assert_eq!(pause(), 900.0);
    }
}
