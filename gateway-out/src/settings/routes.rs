//! `[[route]]` tables, with what they leave away taken from `[route_defaults]` and contradictions refused.

use std::{collections::HashSet, ops::RangeInclusive, str::FromStr, sync::Arc, time::Duration};

use base::RouteId;
use identity::PeerCard;
use ipnet::IpNet;
use service::config::{ConfigError, Loaded, unknown_name};
use wildmatch::WildMatch;

use super::groups::{self, Groups};
use crate::{
    config::{self, Config, DestinationTable, Destinations, Respond, RouteDefaults, RouteTable, Texts},
    pace::{Pace, Rate},
    pseudonymize::{self, Pseudonymization},
    routes::{Callers, Leg, Legs, Route},
    rule::Rule,
    windows::{Span, Windows},
};

/// What a C-ECHO through the whole path may take: longer than that nobody waits.
const ECHO_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(25);

/// All `[[route]]` tables.
pub(super) fn check(loaded: &Loaded<Config>, peers: &[PeerCard]) -> Result<Vec<Arc<Route>>, ConfigError> {
    let groups = Groups::check(loaded)?;
    let defaults = &loaded.config.route_defaults;
    let mut ids = HashSet::new();
    let mut routes = Vec::new();
    for (index, table) in loaded.config.routes.iter().enumerate() {
        let checking = Checking { loaded, peers, groups: &groups, defaults, index, table };
        routes.push(Arc::new(checking.route(&mut ids)?));
    }
    Ok(routes)
}

/// One table while it is checked.
struct Checking<'a> {
    loaded: &'a Loaded<Config>,
    peers: &'a [PeerCard],
    groups: &'a Groups,
    defaults: &'a RouteDefaults,
    index: usize,
    table: &'a RouteTable,
}

/// A value, and the key at which it stands.
struct Said<'a, T> {
    value: &'a T,
    key: String,
}

impl<'a> Checking<'a> {
    fn route(&self, ids: &mut HashSet<RouteId>) -> Result<Route, ConfigError> {
        let (table, defaults) = (self.table, self.defaults);
        let legs = self.legs(ids)?;
        let respond = table.respond.or(defaults.respond).unwrap_or_default();
        if respond == Respond::Delivered {
            self.check_delivered(&legs)?;
        }
        let when = table.when.as_deref().map(Rule::parse).transpose();
        let when = when.map_err(|error| self.error("when", error.to_string()))?;
        let Some(legs) = Legs::new(legs) else {
            return Err(self.error("destination", "no destination: name one at least"));
        };
        let prefer = table.prefer.as_ref().or(defaults.prefer.as_ref());
        Ok(Route {
            ae: table.ae.clone(),
            legs,
            respond,
            index: self.index,
            calling: self.calling()?,
            sources: self.sources()?,
            when,
            private_sop_classes: table.private_sop_classes.or(defaults.private_sop_classes).unwrap_or(true),
            changed_content: table.changed_content.or(defaults.changed_content).unwrap_or_default(),
            prefer: prefer.cloned().unwrap_or_default(),
            negotiate: table.negotiate.or(defaults.negotiate).unwrap_or_default(),
            echo: table.echo.or(defaults.echo).unwrap_or_default(),
            echo_timeout: self.echo_timeout()?,
            pseudonymize: self.pseudonymize()?,
        })
    }

    fn pseudonymize(&self) -> Result<Option<Pseudonymization>, ConfigError> {
        let said = self.said("pseudonymize", &self.table.pseudonymize, &self.defaults.pseudonymize);
        match said {
            Some(said) => pseudonymize::check(self.loaded, &said.key, said.value),
            None => Ok(None),
        }
    }

    fn echo_timeout(&self) -> Result<Duration, ConfigError> {
        let said = self.said("echo_timeout", &self.table.echo_timeout, &self.defaults.echo_timeout);
        let Some(said) = said else { return Ok(config::echo_timeout().0) };
        match said.value.0 {
            within if ECHO_TIMEOUT.contains(&within) => Ok(within),
            other => Err(self.loaded.error(&said.key, format!("{other:?} is out of range; give 1 to 25 s"))),
        }
    }

    fn error(&self, key: &str, message: impl Into<String>) -> ConfigError {
        self.loaded.error(&self.key(key), message)
    }

    fn key(&self, key: &str) -> String {
        format!("route[{}].{key}", self.index)
    }

    /// What the route says, or else the defaults.
    fn said<T>(&self, key: &str, own: &'a Option<T>, default: &'a Option<T>) -> Option<Said<'a, T>> {
        match (own, default) {
            (Some(value), _) => Some(Said { value, key: self.key(key) }),
            (None, Some(value)) => Some(Said { value, key: format!("route_defaults.{key}") }),
            (None, None) => None,
        }
    }

    /// The PACS waits for one destination's answer: nothing may hold that up.
    fn check_delivered(&self, legs: &[Leg]) -> Result<(), ConfigError> {
        let refuse = |message: &str| Err(self.error("respond", message));
        if legs.len() > 1 {
            return refuse(
                "\"delivered\" passes one destination's own answer on, and this route has several: leave one, or respond \"spooled\"",
            );
        }
        if legs.iter().any(|leg| leg.windows.is_some()) {
            return refuse(
                "with \"delivered\" the PACS waits for the destination, and this route has a time window: remove it, or respond \"spooled\"",
            );
        }
        if legs.iter().any(|leg| leg.pace.is_limited()) {
            return refuse(
                "with \"delivered\" the PACS waits for the destination, and this route has a rate limit: remove it, or respond \"spooled\"",
            );
        }
        Ok(())
    }

    fn legs(&self, ids: &mut HashSet<RouteId>) -> Result<Vec<Leg>, ConfigError> {
        let table = self.table;
        let mut legs = Vec::new();
        match (&table.destination, table.id) {
            (Destinations::One(name), Some(id)) => {
                let one = DestinationTable { id, to: None, name: name.clone(), window: None, rate: None };
                self.add_leg(&mut legs, ids, "", &one)?;
            }
            (Destinations::One(_), None) => {
                let message = "the route has no `id`, which both gateways share (openssl rand -hex 16)";
                return Err(self.error("destination", message));
            }
            (Destinations::Several(_), Some(_)) => {
                let message = "with [[route.destination]] tables each of them has its own `id`";
                return Err(self.error("id", message));
            }
            (Destinations::Several(tables), None) => {
                for (n, one) in tables.iter().enumerate() {
                    self.add_leg(&mut legs, ids, &format!("destination[{n}]."), one)?;
                }
            }
        }
        Ok(legs)
    }

    /// `place`: the beginning of the keys of a `[[route.destination]]`; empty in the simple form.
    fn add_leg(
        &self,
        legs: &mut Vec<Leg>,
        ids: &mut HashSet<RouteId>,
        place: &str,
        one: &DestinationTable,
    ) -> Result<(), ConfigError> {
        let (table, defaults) = (self.table, self.defaults);
        let name_key = if place.is_empty() { "destination".to_owned() } else { format!("{place}name") };
        let to = match &one.to {
            Some(to) => Some(Said { value: to, key: self.key(&format!("{place}to")) }),
            None => self.said("to", &table.to, &defaults.to),
        };
        let Some(to) = to else {
            return Err(self.error(&name_key, "there is no `to`: which [[peer]] has this destination?"));
        };
        let Some(receiver) = self.peers.iter().find(|card| card.name == *to.value) else {
            let known: Vec<_> = self.peers.iter().map(|card| card.name.as_str()).collect();
            return Err(self.loaded.error(&to.key, unknown_name("peer", to.value.as_str(), &known)));
        };
        if legs.iter().any(|leg| leg.receiver.name == receiver.name && leg.destination == one.name) {
            let message =
                format!("this route sends to {} at {} already; remove one", one.name, receiver.name);
            return Err(self.error(&name_key, message));
        }
        if !ids.insert(one.id) {
            let message =
                format!("the id {} stands twice; each destination of each route has its own", one.id);
            return Err(self.error(&format!("{place}id"), message));
        }
        legs.push(Leg {
            id: one.id,
            ae: table.ae.clone(),
            receiver: receiver.clone(),
            destination: one.name.clone(),
            urgency: table.priority.or(defaults.priority).unwrap_or_default().into(),
            windows: self.windows(place, one.window.as_ref())?,
            pace: self.pace(place, one.rate.as_ref())?,
            suite: table.suite.or(defaults.suite).unwrap_or_default(),
        });
        Ok(())
    }

    fn windows(&self, place: &str, own: Option<&Texts>) -> Result<Option<Windows>, ConfigError> {
        let said = match own {
            Some(value) => Some(Said { value, key: self.key(&format!("{place}window")) }),
            None => self.said("window", &self.table.window, &self.defaults.window),
        };
        let Some(spans) = said.map(|said| self.each::<Span>(&said)).transpose()? else { return Ok(None) };
        if spans.is_empty() {
            return Ok(None);
        }
        let zone = self.said("time_zone", &self.table.time_zone, &self.defaults.time_zone);
        let (zone, key) = zone.map_or(("local", String::new()), |said| (said.value.as_str(), said.key));
        Windows::new(spans, zone).map(Some).map_err(|error| self.loaded.error(&key, error.to_string()))
    }

    fn pace(&self, place: &str, own: Option<&Texts>) -> Result<Pace, ConfigError> {
        let said = match own {
            Some(value) => Some(Said { value, key: self.key(&format!("{place}rate")) }),
            None => self.said("rate", &self.table.rate, &self.defaults.rate),
        };
        let rates = said.map(|said| self.each::<Rate>(&said)).transpose()?.unwrap_or_default();
        Ok(Pace::new(&rates))
    }

    fn each<T: FromStr<Err: std::fmt::Display>>(
        &self,
        said: &Said<'_, Texts>,
    ) -> Result<Vec<T>, ConfigError> {
        let mut parsed = Vec::new();
        for (n, text) in said.value.0.iter().enumerate() {
            match text.parse() {
                Ok(one) => parsed.push(one),
                Err(error) => {
                    return Err(self.loaded.error(&format!("{}[{n}]", said.key), format!("{error}")));
                }
            }
        }
        Ok(parsed)
    }

    fn calling(&self) -> Result<Callers, ConfigError> {
        let Some(said) = self.said("calling", &self.table.calling, &self.defaults.calling) else {
            return Ok(Callers::Any);
        };
        let mut patterns: Vec<WildMatch> = Vec::new();
        for (n, text) in said.value.iter().enumerate() {
            let error = |message: String| self.loaded.error(&format!("{}[{n}]", said.key), message);
            if text == "*" {
                return Ok(Callers::Any);
            }
            match text.strip_prefix('@') {
                Some(name) => patterns.extend(self.groups.titles(name).map_err(error)?.iter().cloned()),
                None => patterns.push(groups::title(text).map_err(error)?),
            }
        }
        Ok(Callers::Like(patterns))
    }

    fn sources(&self) -> Result<Vec<IpNet>, ConfigError> {
        let Some(said) = self.said("sources", &self.table.sources, &self.defaults.sources) else {
            return Ok(groups::loopback());
        };
        let mut networks = Vec::new();
        for (n, text) in said.value.iter().enumerate() {
            let error = |message: String| self.loaded.error(&format!("{}[{n}]", said.key), message);
            match text.strip_prefix('@') {
                Some(name) => networks.extend(self.groups.networks(name).map_err(error)?),
                None => networks.push(groups::network(text).ok_or_else(|| {
                    error(format!("{text:?} is no network; write one as in \"10.1.0.0/16\" or \"10.1.0.7\""))
                })?),
            }
        }
        Ok(networks)
    }
}

#[cfg(test)]
mod tests {
    use base::AeTitle;
    use envelope::Suite;
    use wire::Urgency;

    use crate::{routes::Route, testing::checked};

    const A: &str = "id = \"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a\"\nto = \"site-a\"\n";
    const B: &str = "id = \"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b\"\nto = \"site-b\"\n";

    fn two(first: &str, second: &str) -> String {
        format!("[[route]]\nae = \"GW\"\n[[route.destination]]\n{first}[[route.destination]]\n{second}")
    }

    #[test]
    fn a_route_has_one_destination_or_tables_of_several() {
        let simple = checked(&format!("[[route]]\nae = \"GW\"\ndestination = \"pacs\"\n{A}")).unwrap();
        assert_eq!(simple.routes.legs().len(), 1);
        let text = two(&format!("{A}name = \"pacs\"\n"), &format!("{B}name = \"pacs\"\n"));
        let several = checked(&text).unwrap();
        let legs: Vec<_> = several.routes.legs().iter().map(|leg| leg.receiver.name.to_string()).collect();
        assert_eq!(legs, ["site-a", "site-b"]);
        assert_eq!(several.routes.iter().count(), 1);
    }

    fn simple(rest: &str) -> String {
        format!("[[route]]\nae = \"GW\"\ndestination = \"pacs\"\n{rest}")
    }

    #[test]
    fn routes_take_what_they_leave_away_from_the_defaults_and_their_peers_from_groups() {
        let text = "[groups]\nmodalities = [\"CT*\", \"10.1.0.0/16\", \"MR1\", \"10.2.0.9\"]\n\
            [route_defaults]\nto = \"site-a\"\ncalling = [\"@modalities\", \"WS\"]\nsources = [\"@modalities\"]\n\
            priority = \"bulk\"\nwindow = \"Sat\"\nsuite = \"A\"\n\
            [[route]]\nae = \"ONE\"\ndestination = \"pacs\"\nid = \"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a\"\n\
            [[route]]\nae = \"TWO\"\npriority = \"urgent\"\nwindow = []\nto = \"site-b\"\nsources = [\"::1\"]\n\
            [[route.destination]]\nid = \"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b\"\nname = \"pacs\"\n\
            [[route.destination]]\nid = \"0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c\"\nname = \"pacs\"\nto = \"site-a\"\nwindow = \"Sun\"\n";
        let settings = checked(text).unwrap();
        let routes: Vec<_> = settings.routes.iter().collect();
        let [one, two] = routes.as_slice() else { panic!("{routes:?}") };
        let admits = |route: &Route, calling: &str, source: &str| {
            route.admits(&AeTitle::parse(calling).unwrap(), source.parse().unwrap()).is_ok()
        };
        assert!(admits(one, "CT12", "10.1.2.3") && admits(one, "WS", "10.2.0.9"));
        assert!(!admits(one, "CT12", "10.2.0.8") && !admits(one, "MR2", "10.1.2.3"));
        assert!(admits(two, "MR1", "::1") && !admits(two, "MR1", "10.1.2.3"));
        let legs: Vec<_> =
            two.legs.iter().map(|leg| (leg.receiver.name.to_string(), leg.windows.is_some())).collect();
        assert_eq!(legs, [("site-b".to_owned(), false), ("site-a".to_owned(), true)]);
        let (first, second) = (one.legs.first(), two.legs.first());
        assert_eq!((first.urgency, second.urgency), (Urgency::Bulk, Urgency::Urgent));
        assert!(first.windows.is_some() && first.suite == Suite::A && second.suite == Suite::A);
    }

    #[test]
    fn two_hundred_routes_and_sixty_modalities_are_checked_quickly() {
        let modalities: Vec<_> = (0..60).map(|n| format!("\"MOD_{n:02}\", \"10.{n}.0.0/16\"")).collect();
        let mut text = format!("[groups]\nmodalities = [{}]\n", modalities.join(", "));
        text.push_str(
            "[route_defaults]\ncalling = [\"@modalities\"]\nsources = [\"@modalities\"]\nto = \"site-a\"\n",
        );
        for n in 0..200 {
            text.push_str(&format!(
                "[[route]]\nae = \"GW_{}\"\nid = \"{n:032x}\"\ndestination = \"pacs-{n}\"\n\
                when = 'Modality in [\"CT\", \"MR\"] and StationName ~ \"^ROOM-{n}$\"'\n",
                n / 10
            ));
        }
        let begun = std::time::Instant::now();
        let settings = checked(&text).unwrap();
        println!("200 routes, 60 modalities: {:?} with the keys of four parties", begun.elapsed());
        assert_eq!(settings.routes.legs().len(), 200);
        let called = AeTitle::parse("GW_7").unwrap();
        let calling = AeTitle::parse("MOD_59").unwrap();
        let open = settings.routes.admit(&calling, &called, "10.59.1.1".parse().unwrap()).unwrap();
        assert_eq!(open.routes().len(), 10);
    }

    #[test]
    fn routes_that_contradict_themselves_are_refused_with_their_place() {
        let pacs = |ids: &str| format!("{ids}name = \"pacs\"\n");
        let cases = [
            (
                "[[route]]\nae = \"GW\"\ndestination = \"pacs\"\nto = \"site-a\"\n".to_owned(),
                "3:15: `route[0].destination`: the route has no `id`, which both gateways share (openssl rand -hex 16)",
            ),
            (
                format!("[[route]]\nae = \"GW\"\n{A}[[route.destination]]\n{}", pacs(B)),
                "3:6: `route[0].id`: with [[route.destination]] tables each of them has its own `id`",
            ),
            (
                "[[route]]\nae = \"GW\"\ndestination = []\n".to_owned(),
                "3:15: `route[0].destination`: no destination: name one at least",
            ),
            (
                "[[route]]\nae = \"GW\"\ndestination = 5\n".to_owned(),
                "3:15: `route[0].destination`: expected the name of a destination, or [[route.destination]] tables, \
                 found integer 5",
            ),
            (
                two(&pacs(A), &pacs(&A.replace("0a", "0c"))),
                "10:8: `route[0].destination[1].name`: this route sends to pacs at site-a already; remove one",
            ),
            (
                two(&pacs(A), &pacs(&B.replace("0b", "0a"))),
                "8:6: `route[0].destination[1].id`: the id 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a stands twice; each \
                 destination of each route has its own",
            ),
            (
                two(&pacs(A), &pacs(&B.replace("site-b", "site-c"))),
                "9:6: `route[0].destination[1].to`: no [[peer]] is called site-c; did you mean site-a?",
            ),
            (
                two(&pacs(A), &format!("{}suite = \"A\"\n", pacs(B))),
                "11:1: unknown key `route[0].destination[1].suite`; known here: id, to, name, window, rate",
            ),
            (
                format!(
                    "[[route]]\nae = \"GW\"\ndestination = \"pacs\"\n{A}sources = [\"::1\", \"10.1.0.0/33\"]\n"
                ),
                "6:19: `route[0].sources[1]`: \"10.1.0.0/33\" is no network; write one as in \"10.1.0.0/16\" or \"10.1.0.7\"",
            ),
            (
                format!("[[route]]\nae = \"GW\"\ndestination = \"pacs\"\n{A}when = 'Modalty == \"CT\"'\n"),
                "6:8: `route[0].when`: at character 1, before `Modalty == \"CT\"`: the standard has no attribute \
                 Modalty; did you mean Modality?",
            ),
            (
                simple(&A.replace("to = \"site-a\"\n", "")),
                "3:15: `route[0].destination`: there is no `to`: which [[peer]] has this destination?",
            ),
            (
                simple(&format!("{A}window = [\"Sat\", \"Sun 25:00-26:00\"]\n")),
                "6:18: `route[0].window[1]`: \"25:00\" is no time; write 00:00 to 24:00",
            ),
            (
                simple(&format!("{A}window = \"Sat\"\ntime_zone = \"Mars/Olympus\"\n")),
                "7:13: `route[0].time_zone`: \"Mars/Olympus\" is no time zone of this machine; write one as in \
                 \"Europe/Amsterdam\", or \"local\"",
            ),
            (
                simple(&format!("{A}rate = \"fast\"\n")),
                "6:8: `route[0].rate[0]`: \"fast\" is no rate; write one as in \"20 MB/s\", \"5 instances/s\" or \
                 \"90 instances/min\"",
            ),
            (
                simple(&format!("{A}rate = \"1 MB/s\"\nrespond = \"delivered\"\n")),
                "7:11: `route[0].respond`: with \"delivered\" the PACS waits for the destination, and this route has a \
                 rate limit: remove it, or respond \"spooled\"",
            ),
            (
                simple(&format!("{A}window = \"Sat\"\nrespond = \"delivered\"\n")),
                "7:11: `route[0].respond`: with \"delivered\" the PACS waits for the destination, and this route has a \
                 time window: remove it, or respond \"spooled\"",
            ),
            (
                simple(&format!("{A}calling = [\"@mr\"]\n[groups]\nct = [\"CT*\"]\n")),
                "6:12: `route[0].calling[0]`: no group is called mr; there are ct",
            ),
            (
                simple(&format!("{A}sources = [\"@ct\"]\n[groups]\nct = [\"CT*\"]\n")),
                "6:12: `route[0].sources[0]`: the group ct has no network and no address",
            ),
            (
                simple(&format!("{A}[groups]\nct = [\"CT*\", \"10.1.0.0/99\"]\n")),
                "7:14: `groups.ct[1]`: \"10.1.0.0/99\" is no network; write one as in \"10.1.0.0/16\" or \"10.1.0.7\"",
            ),
            (
                simple(&format!("{A}[route_defaults]\nsources = [\"nowhere\"]\n")),
                "7:12: `route_defaults.sources[0]`: \"nowhere\" is no network; write one as in \"10.1.0.0/16\" or \
                 \"10.1.0.7\"",
            ),
            (
                two(&pacs(A), &pacs(B)).replace("\"GW\"\n", "\"GW\"\nrespond = \"delivered\"\n"),
                "3:11: `route[0].respond`: \"delivered\" passes one destination's own answer on, and this route has several: \
                 leave one, or respond \"spooled\"",
            ),
        ];
        for (text, want) in cases {
            match checked(&text) {
                Ok(_) => panic!("accepted: {text}"),
                Err(error) => assert_eq!(error, format!("routes.toml:{want}"), "{text}"),
            }
        }
    }
}
