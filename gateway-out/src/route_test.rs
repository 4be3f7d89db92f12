//! `route test`: which route takes an instance, and why each earlier one does not. From the configuration and a file
//! alone: nothing is sent, and no daemon is asked.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    net::IpAddr,
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use base::{AeTitle, InstanceMeta, Priority};
use dataset::{Selecting, Selection, Selector, Tag, part10};
use dimse::SopClassKind;
use serde_json::{Value, json};
use service::{config::Loaded, exit::UsageError};

use crate::{
    answers::{Answer, Cause},
    config::Config,
    pseudonymize::show::{self, Changes},
    rejections::TurnedAway,
    routes::{Refusal, Route, Routes},
    routing::{Candidates, Miss, judge},
    rule::{Facts, Found},
};

/// Read of the file at one time.
const READ_BYTES: usize = 64 * 1024;

/// The association that the file is thought to come on.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Called AE title; may be left out where all routes have one.
    pub called: Option<AeTitle>,
    /// Calling AE title.
    pub calling: AeTitle,
    /// Source address.
    pub source: IpAddr,
    /// Priority of the C-STORE.
    pub priority: Priority,
    /// Show values that may lead to a patient.
    pub reveal: bool,
    /// Show what the route's pseudonymization would do.
    pub pseudonymize: bool,
}

/// What would happen, step by step.
#[derive(Debug)]
pub struct Explained {
    meta: InstanceMeta,
    source: IpAddr,
    reveal: bool,
    steps: Vec<Step>,
    /// What the peer would see, where no route takes it.
    refused: Option<String>,
    /// What the route that takes it would do to it.
    changes: Option<Changes>,
}

#[derive(Debug)]
struct Step {
    /// Where the route stands.
    place: String,
    route: Arc<Route>,
    verdict: Verdict,
    /// The comparisons of its rule.
    found: Vec<Found>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Takes,
    NotAdmitted(Refusal),
    Misses(Miss),
    /// An earlier route takes it.
    NotAsked,
}

impl Verdict {
    fn text(self) -> String {
        match self {
            Self::Takes => "takes it".to_owned(),
            Self::NotAdmitted(refusal) => format!("no: {refusal}"),
            Self::Misses(Miss::PrivateClass) => {
                "no: it takes only SOP classes of the storage table".to_owned()
            }
            Self::Misses(Miss::Rule) => "no: its rule does not hold".to_owned(),
            Self::Misses(Miss::Unreadable) => {
                "no: its rule looks at the data set, and nobody can read this transfer syntax".to_owned()
            }
            Self::NotAsked => "not asked: an earlier route takes it".to_owned(),
        }
    }
}

/// Asks every route with the called AE title, in the order of the file.
pub fn explain(loaded: &Loaded<Config>, routes: &Routes, file: &Path, asked: &Asked) -> Result<Explained> {
    let called = called(routes, asked)?;
    let (meta, offset) = read_meta(file, asked, &called)?;
    let named: Vec<_> = routes.iter().filter(|route| route.ae == called).collect();
    let mut explained = Explained {
        meta,
        source: asked.source,
        reveal: asked.reveal,
        steps: Vec::new(),
        refused: None,
        changes: None,
    };
    let admitted: Vec<_> =
        named.iter().filter(|route| route.admits(&asked.calling, asked.source).is_ok()).cloned().collect();
    let Some(candidates) = Candidates::new(admitted) else {
        explained.refused = Some(rejection(routes, &called, &asked.calling, asked.source));
        explained.steps = named.iter().map(|route| step(loaded, route, asked, None)).collect();
        return Ok(explained);
    };
    let selector = Selector::new(&explained.meta.transfer_syntax, candidates.wanted().iter().copied());
    let readable = selector.is_some();
    let header =
        selector.map(|selector| read_header(file, offset, selector)).transpose()?.unwrap_or_default();
    let facts = Facts { meta: &explained.meta, header: &header };
    let mut taken = false;
    for route in &named {
        let mut step = step(loaded, route, asked, Some((facts, readable)));
        if taken {
            (step.verdict, step.found) = (Verdict::NotAsked, Vec::new());
        }
        if step.verdict == Verdict::Takes && asked.pseudonymize {
            let Some(how) = &route.pseudonymize else {
                bail!("the route that takes it ({}) does not pseudonymize", step.place);
            };
            let syntax = &explained.meta.transfer_syntax;
            explained.changes = Some(show::changes(how, file, syntax, offset)?);
        }
        taken |= step.verdict == Verdict::Takes;
        explained.steps.push(step);
    }
    if !taken {
        let Answer { status, comment } = Cause::NoRoute.into();
        explained.refused = Some(format!("C-STORE is answered {status}: {}", comment.unwrap_or_default()));
    }
    Ok(explained)
}

fn called(routes: &Routes, asked: &Asked) -> Result<AeTitle> {
    if let Some(called) = &asked.called {
        return Ok(called.clone());
    }
    let mut titles: Vec<_> = routes.iter().map(|route| route.ae.clone()).collect();
    titles.dedup();
    match titles.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("there is no [[route]]"),
        _ => Err(UsageError("the routes have several AE titles; choose one by --called".to_owned()).into()),
    }
}

fn rejection(routes: &Routes, called: &AeTitle, calling: &AeTitle, source: IpAddr) -> String {
    let refusal = routes.admit(calling, called, source).err().unwrap_or(Refusal::Called);
    let near = routes.nearest(called).filter(|_| refusal == Refusal::Called);
    let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    let reason = TurnedAway::from(refusal).reason();
    format!("the association is rejected ({reason:?}): {refusal}{hint}")
}

fn step(
    loaded: &Loaded<Config>,
    route: &Arc<Route>,
    asked: &Asked,
    facts: Option<(Facts<'_>, bool)>,
) -> Step {
    let verdict = match (route.admits(&asked.calling, asked.source), facts) {
        (Err(refusal), _) => Verdict::NotAdmitted(refusal),
        (Ok(()), None) => Verdict::NotAsked,
        (Ok(()), Some((facts, readable))) => {
            judge(route, facts, readable).map_or_else(Verdict::Misses, |()| Verdict::Takes)
        }
    };
    let asks = matches!(verdict, Verdict::Takes | Verdict::Misses(Miss::Rule));
    let found = match (&route.when, facts) {
        (Some(rule), Some((facts, _))) if asks => rule.explain(facts),
        _ => Vec::new(),
    };
    let place = loaded.place(&format!("route[{}]", route.index)).to_string();
    Step { place, route: Arc::clone(route), verdict, found }
}

fn read_meta(path: &Path, asked: &Asked, called: &AeTitle) -> Result<(InstanceMeta, u64)> {
    let read = || anyhow::Ok(part10::read_file_meta(File::open(path)?)?);
    let file = read().with_context(|| format!("cannot read {}", path.display()))?;
    let meta = InstanceMeta {
        sop_class: file.sop_class,
        sop_instance: file.sop_instance,
        transfer_syntax: file.transfer_syntax,
        calling: asked.calling.clone(),
        called: called.clone(),
        move_originator: None,
        priority: asked.priority,
    };
    Ok((meta, file.data_set_offset))
}

fn read_header(path: &Path, offset: u64, mut selector: Selector) -> Result<BTreeMap<Tag, Selection>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = file.read(&mut buffer)?;
        let read = buffer.get(..count).unwrap_or_default();
        let state = selector.feed(read).with_context(|| format!("{} would be refused", path.display()))?;
        if count == 0 || state != Selecting::Going {
            return Ok(selector.finish());
        }
    }
}

impl Explained {
    /// Whether a route takes it.
    pub fn is_taken(&self) -> bool {
        self.refused.is_none()
    }

    /// Whether the route that takes it could not pseudonymize it.
    pub fn is_refused_by_pseudonymization(&self) -> bool {
        self.changes.as_ref().is_some_and(|changes| changes.refused.is_some())
    }

    /// For people.
    pub fn text(&self) -> String {
        let meta = &self.meta;
        let class = SopClassKind::of(&meta.sop_class).name().unwrap_or("a private or unknown SOP class");
        let mut lines = vec![
            format!("{class} ({}), transfer syntax {}", meta.sop_class, meta.transfer_syntax),
            format!("{} calls {} from {}", meta.calling, meta.called, self.source),
        ];
        for step in &self.steps {
            lines.push(format!("{}  {}", step.place, step.verdict.text()));
            for found in &step.found {
                let mark = if found.holds { "yes" } else { "no " };
                lines.push(format!("    {mark}  {}    ({})", found.text, self.shown(found)));
            }
            if step.verdict == Verdict::Takes {
                for leg in step.route.legs.iter() {
                    lines.push(format!("    goes to {} at {}", leg.destination, leg.receiver.name));
                }
                if let Some(how) = &step.route.pseudonymize {
                    lines.push(format!("    {}", how.line()));
                }
                if let Some(changes) = &self.changes {
                    lines.push(changes.text(self.reveal).trim_end().to_owned());
                }
            }
        }
        lines.extend(self.refused.clone());
        lines.join("\n") + "\n"
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let steps = self.steps.iter().map(|step| {
            let comparisons = step
                .found
                .iter()
                .map(|found| json!({ "text": found.text, "holds": found.holds, "found": self.shown(found) }));
            let legs = step.route.legs.iter().map(
                |leg| json!({ "route": leg.id, "receiver": leg.receiver.name, "destination": leg.destination }),
            );
            json!({
                "place": step.place,
                "ae": step.route.ae,
                "takes": step.verdict == Verdict::Takes,
                "why": step.verdict.text(),
                "comparisons": comparisons.collect::<Vec<_>>(),
                "destinations": legs.collect::<Vec<_>>(),
            })
        });
        json!({
            "sop_class": self.meta.sop_class,
            "transfer_syntax": self.meta.transfer_syntax,
            "calling": self.meta.calling,
            "called": self.meta.called,
            "source": self.source,
            "routes": steps.collect::<Vec<_>>(),
            "refused": self.refused,
            "pseudonymization": self.changes.as_ref().map(|changes| changes.json(self.reveal)),
        })
    }

    /// Texts that people type may hold names: they are shown only where that is asked for.
    fn shown(&self, found: &Found) -> String {
        if found.is_code || self.reveal {
            found.values.clone()
        } else {
            "not shown; --reveal shows it".to_owned()
        }
    }
}
