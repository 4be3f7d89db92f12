//! Which of the routes that an association may use takes an instance: in the order of the file, the first whose rule
//! holds.
//!
//! Where a rule looks at the data set, its beginning is kept until what the rules want is here, at most
//! [`dataset::limits::HEADER_BYTES_MAX`]; then it is decided, and only then sealed. Where none does, nothing is kept.

use std::{collections::BTreeMap, sync::Arc};

use base::InstanceMeta;
use bytes::Bytes;
use dataset::{Selecting, Selector, Tag, WalkError};
use dimse::{Association, AssociationError, SopClassKind, StoragePolicy};
use tracing::warn;

use crate::{
    answers::Cause,
    pipeline,
    routes::Route,
    rule::{Facts, Rule},
};

/// The routes that one association may use, in the order of the file: one at least.
#[derive(Debug, Clone)]
pub struct Candidates {
    routes: Vec<Arc<Route>>,
    /// What their rules want to see of a data set.
    wanted: Vec<Tag>,
}

/// Why a route does not take an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// It takes only SOP classes of the standard's storage table, and this is none.
    PrivateClass,
    /// Its rule does not hold.
    Rule,
    /// Its rule looks at a data set in a transfer syntax that nobody can read.
    Unreadable,
}

impl Candidates {
    /// `None` where there is none.
    pub fn new(routes: Vec<Arc<Route>>) -> Option<Self> {
        let mut wanted: Vec<_> =
            routes.iter().filter_map(|route| route.when.as_ref()).flat_map(Rule::wanted).collect();
        wanted.sort_unstable();
        wanted.dedup();
        (!routes.is_empty()).then_some(Self { routes, wanted })
    }

    /// In the order of the file.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// What their rules want to see of a data set.
    pub fn wanted(&self) -> &[Tag] {
        &self.wanted
    }

    /// What is accepted for all of them together: any class that one of them takes, and the transfer syntaxes that
    /// the first one wants before those of the next.
    pub fn policy(&self) -> StoragePolicy {
        let mut prefer = Vec::new();
        for uid in self.routes.iter().flat_map(|route| &route.prefer) {
            if !prefer.contains(uid) {
                prefer.push(uid.clone());
            }
        }
        StoragePolicy {
            private_sop_classes: self.routes.iter().any(|route| route.private_sop_classes),
            prefer,
        }
    }

    /// The route that takes an instance whatever its data set says, if that can be known.
    fn without_header(&self, meta: &InstanceMeta) -> Option<Arc<Route>> {
        let header = BTreeMap::new();
        let facts = Facts { meta, header: &header };
        for route in &self.routes {
            let looks = route.when.as_ref().is_some_and(|rule| !rule.wanted().is_empty());
            if looks {
                return None;
            }
            if judge(route, facts, true).is_ok() {
                return Some(Arc::clone(route));
            }
        }
        None
    }
}

/// Whether a route takes an instance. `readable`: that its data set could be looked at.
pub fn judge(route: &Route, facts: Facts<'_>, readable: bool) -> Result<(), Miss> {
    if !route.private_sop_classes
        && !matches!(SopClassKind::of(&facts.meta.sop_class), SopClassKind::Storage(_))
    {
        return Err(Miss::PrivateClass);
    }
    match &route.when {
        Some(rule) if !readable && !rule.wanted().is_empty() => Err(Miss::Unreadable),
        Some(rule) if !rule.matches(facts) => Err(Miss::Rule),
        _ => Ok(()),
    }
}

/// The data set of one instance: what was kept of it to decide, and then the rest.
pub struct Fragments<'a> {
    kept: std::vec::IntoIter<Bytes>,
    association: &'a mut Association,
}

impl<'a> Fragments<'a> {
    /// Nothing was kept.
    fn new(association: &'a mut Association) -> Self {
        Self { kept: Vec::new().into_iter(), association }
    }

    /// The next one; `None` at the end of the data set.
    pub async fn next(&mut self) -> Result<Option<Bytes>, AssociationError> {
        match self.kept.next() {
            Some(fragment) => Ok(Some(fragment)),
            None => self.association.data().await,
        }
    }

    /// Reads the rest of a data set that is refused already: the PACS listens for the answer only then.
    pub async fn drain(&mut self) -> Result<(), AssociationError> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}

/// Decides which route takes the instance whose data set comes next. `Err` inside: it is refused.
pub async fn choose<'a>(
    candidates: &Candidates,
    association: &'a mut Association,
    meta: &InstanceMeta,
) -> Result<(Result<Arc<Route>, Cause>, Fragments<'a>), AssociationError> {
    let mut fragments = Fragments::new(association);
    if let Some(route) = candidates.without_header(meta) {
        return Ok((Ok(route), fragments));
    }
    let selector = Selector::new(&meta.transfer_syntax, candidates.wanted.iter().copied());
    let readable = selector.is_some();
    let mut header = BTreeMap::new();
    if let Some(selector) = selector {
        let (found, kept) = read(selector, fragments.association).await?;
        fragments.kept = kept.into_iter();
        match found {
            Ok(found) => header = found,
            Err(error) => return Ok((Err(pipeline::refused(&error)), fragments)),
        }
    } else if !candidates.wanted.is_empty() {
        warn!(
            transfer_syntax = %meta.transfer_syntax,
            "nobody can read this transfer syntax: routes whose rule looks at the data set do not take the instance"
        );
    }
    let facts = Facts { meta, header: &header };
    let route = candidates.routes.iter().find(|route| judge(route, facts, readable).is_ok());
    Ok((route.cloned().ok_or(Cause::NoRoute), fragments))
}

type Header = BTreeMap<Tag, dataset::Selection>;

async fn read(
    mut selector: Selector,
    association: &mut Association,
) -> Result<(Result<Header, WalkError>, Vec<Bytes>), AssociationError> {
    let mut kept = Vec::new();
    while let Some(fragment) = association.data().await? {
        let state = selector.feed(&fragment);
        kept.push(fragment);
        match state {
            Ok(Selecting::Going) => {}
            Ok(Selecting::Done) => break,
            Ok(Selecting::Cut) => {
                warn!(
                    "what the rules look at is not within the first MiB of a data set; it counts as absent"
                );
                break;
            }
            Err(error) => return Ok((Err(error), kept)),
        }
    }
    Ok((Ok(selector.finish()), kept))
}

#[cfg(test)]
mod tests {
    use base::{AeTitle, Phi, Priority, Uid};
    use dataset::Selection;

    use super::*;
    use crate::testing::route;

    fn meta(class: &str) -> InstanceMeta {
        InstanceMeta {
            sop_class: Uid::parse(class).unwrap(),
            sop_instance: Phi::new(Uid::parse("2.25.7").unwrap()),
            transfer_syntax: Uid::parse("1.2.840.10008.1.2.1").unwrap(),
            calling: AeTitle::parse("CT1").unwrap(),
            called: AeTitle::parse("GW").unwrap(),
            move_originator: None,
            priority: Priority::Medium,
        }
    }

    fn with(when: Option<&str>, private: bool, prefer: &[&str]) -> Arc<Route> {
        let mut made = route("GW");
        made.when = when.map(|text| Rule::parse(text).unwrap());
        made.private_sop_classes = private;
        made.prefer = prefer.iter().map(|uid| Uid::parse(uid).unwrap()).collect();
        Arc::new(made)
    }

    #[test]
    fn the_header_is_waited_for_only_where_a_rule_before_the_answer_looks_at_it() {
        const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
        let class = format!("SOPClassUID == \"{CT}\"");
        let cases: &[(&[Option<&str>], Option<usize>)] = &[
            (&[None], Some(0)),
            (&[Some(&class), Some("exists Modality")], Some(0)),
            (&[Some("Priority == \"HIGH\""), None], Some(1)),
            (&[Some("exists Modality"), None], None),
            (&[Some("Priority == \"HIGH\""), Some("exists Modality"), None], None),
            (&[Some("Priority == \"HIGH\"")], None),
        ];
        for (rules, want) in cases {
            let routes: Vec<_> = rules.iter().map(|rule| with(*rule, true, &[])).collect();
            let got = Candidates::new(routes.clone()).unwrap().without_header(&meta(CT));
            let place = got.and_then(|got| routes.iter().position(|route| Arc::ptr_eq(route, &got)));
            assert_eq!(place, *want, "{rules:?}");
        }
        assert!(Candidates::new(Vec::new()).is_none());
    }

    #[test]
    fn a_route_says_why_it_does_not_take_an_instance() {
        let header = BTreeMap::from([(Tag::MODALITY, Selection::Values(vec!["CT".to_owned()]))]);
        let cases = [
            (None, false, "1.2.840.10008.5.1.4.1.1.2", true, Ok(())),
            (None, false, "1.2.3", true, Err(Miss::PrivateClass)),
            (None, true, "1.2.3", false, Ok(())),
            (Some("Modality == 'CT'"), true, "1.2.3", true, Ok(())),
            (Some("Modality == 'MR'"), true, "1.2.3", true, Err(Miss::Rule)),
            // What cannot be looked at is not "absent": neither rule holds.
            (Some("Modality == 'CT'"), true, "1.2.3", false, Err(Miss::Unreadable)),
            (Some("Modality != 'MR'"), true, "1.2.3", false, Err(Miss::Unreadable)),
            (Some("SOPClassUID == '1.2.3'"), true, "1.2.3", false, Ok(())),
        ];
        for (when, private, class, readable, want) in cases {
            let meta = meta(class);
            let got = judge(&with(when, private, &[]), Facts { meta: &meta, header: &header }, readable);
            assert_eq!(got, want, "{when:?} {class}");
        }
    }

    #[test]
    fn an_association_is_offered_what_any_of_its_routes_takes() {
        let routes = vec![with(None, false, &["1.2.3", "1.2.4"]), with(None, true, &["1.2.4", "1.2.5"])];
        let policy = Candidates::new(routes).unwrap().policy();
        assert!(policy.private_sop_classes);
        let prefer: Vec<_> = policy.prefer.iter().map(Uid::as_str).collect();
        assert_eq!(prefer, ["1.2.3", "1.2.4", "1.2.5"]);
    }
}
