//! Mirrored negotiation: offering the PACS what the destination accepts (a pure function of two lists).

use std::collections::{BTreeMap, BTreeSet};

use base::Uid;

use crate::{
    admission::{ContextChoice, ContextDecision, ContextRejection, Proposal, ProposedContext},
    sop_class::VERIFICATION,
    transfer_syntax::{PLAIN_TRANSFER_SYNTAXES, choose_among, is_lossless, is_lossy},
};

/// Which SOP classes a destination accepts, each with its transfer syntaxes: what a probe has found. Of several
/// destinations it is the union, and each instance is forwarded to those that take it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirror {
    accepts: BTreeMap<Uid, BTreeSet<Uid>>,
}

impl FromIterator<(Uid, Uid)> for Mirror {
    fn from_iter<I: IntoIterator<Item = (Uid, Uid)>>(pairs: I) -> Self {
        let mut mirror = Self::default();
        mirror.extend(pairs);
        mirror
    }
}

impl Extend<(Uid, Uid)> for Mirror {
    fn extend<I: IntoIterator<Item = (Uid, Uid)>>(&mut self, pairs: I) {
        for (class, syntax) in pairs {
            self.accepts.entry(class).or_default().insert(syntax);
        }
    }
}

impl Mirror {
    /// With re-encoding on the way: whoever takes one of Implicit, Explicit and Deflated Little Endian takes all.
    #[must_use]
    pub fn with_reencoding(mut self) -> Self {
        let plain = || PLAIN_TRANSFER_SYNTAXES.iter().filter_map(|uid| Uid::parse(uid).ok());
        for syntaxes in self.accepts.values_mut() {
            if plain().any(|uid| syntaxes.contains(&uid)) {
                syntaxes.extend(plain());
            }
        }
        self
    }

    /// Nothing is known to be accepted.
    pub fn is_empty(&self) -> bool {
        self.accepts.is_empty()
    }

    /// The pairs, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&Uid, &Uid)> {
        self.accepts.iter().flat_map(|(class, syntaxes)| syntaxes.iter().map(move |syntax| (class, syntax)))
    }

    /// Decides about each context; verification is accepted whatever the destination says of it.
    pub fn decide(&self, proposal: &Proposal, prefer: &[Uid]) -> Vec<ContextDecision> {
        let decision = |context: &ProposedContext| ContextDecision {
            id: context.id,
            choice: self.choose(context, prefer),
        };
        proposal.contexts.iter().map(decision).collect()
    }

    /// The first of `prefer` that the destination accepts, then by the order of
    /// [`choose_transfer_syntax`](crate::choose_transfer_syntax). Never a lossy one where a lossless one was offered
    /// beside it, not even when the destination takes nothing else of the context: the requestor would compress for us.
    pub fn choose(&self, context: &ProposedContext, prefer: &[Uid]) -> ContextChoice {
        let offered = &context.transfer_syntaxes;
        let accepted: Vec<&Uid> = if context.abstract_syntax.as_str() == VERIFICATION {
            offered.iter().collect()
        } else {
            let Some(accepts) = self.accepts.get(&context.abstract_syntax) else {
                return ContextChoice::Reject(ContextRejection::AbstractSyntaxNotSupported);
            };
            let lossless_offered = offered.iter().any(is_lossless);
            let is_eligible = |uid: &&Uid| accepts.contains(*uid) && !(lossless_offered && is_lossy(uid));
            offered.iter().filter(is_eligible).collect()
        };
        match choose_among(&accepted, prefer) {
            Some(uid) => ContextChoice::Accept(uid.clone()),
            None => ContextChoice::Reject(ContextRejection::TransferSyntaxesNotSupported),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
    const EXPLICIT: &str = "1.2.840.10008.1.2.1";
    const IMPLICIT: &str = "1.2.840.10008.1.2";
    const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
    const BASELINE: &str = "1.2.840.10008.1.2.4.50";
    const J2K: &str = "1.2.840.10008.1.2.4.91";
    const J2K_LOSSLESS: &str = "1.2.840.10008.1.2.4.90";
    const RLE: &str = "1.2.840.10008.1.2.5";

    fn uids(list: &[&str]) -> Vec<Uid> {
        list.iter().map(|uid| Uid::parse(uid).unwrap()).collect()
    }

    fn choose(mirror: &Mirror, class: &str, offered: &[&str], prefer: &[&str]) -> Result<String, u8> {
        let context = ProposedContext {
            id: 1,
            abstract_syntax: Uid::parse(class).unwrap(),
            transfer_syntaxes: uids(offered),
        };
        match mirror.choose(&context, &uids(prefer)) {
            ContextChoice::Accept(uid) => Ok(uid.to_string()),
            ContextChoice::Reject(ContextRejection::AbstractSyntaxNotSupported) => Err(3),
            ContextChoice::Reject(ContextRejection::TransferSyntaxesNotSupported) => Err(4),
            ContextChoice::Reject(_) => Err(0),
        }
    }

    /// Accepted by the destination for CT, offered by the PACS, preferred, and the answer.
    type Case =
        (&'static [&'static str], &'static [&'static str], &'static [&'static str], Result<&'static str, u8>);

    #[test]
    fn the_pacs_is_offered_what_the_destination_accepts() {
        let cases: &[Case] = &[
            (&[], &[EXPLICIT], &[], Err(3)),
            (&[IMPLICIT], &[EXPLICIT], &[], Err(4)),
            (&[IMPLICIT], &[EXPLICIT, IMPLICIT], &[], Ok(IMPLICIT)),
            (&[IMPLICIT, EXPLICIT], &[IMPLICIT, EXPLICIT], &[], Ok(EXPLICIT)),
            (&[IMPLICIT, EXPLICIT], &[IMPLICIT, EXPLICIT], &[IMPLICIT], Ok(IMPLICIT)),
            // The first of the list that the destination accepts, not the first of the list.
            (&[IMPLICIT, RLE], &[EXPLICIT, RLE, IMPLICIT], &[EXPLICIT, IMPLICIT], Ok(IMPLICIT)),
            (&[J2K_LOSSLESS, RLE, IMPLICIT], &[RLE, J2K_LOSSLESS, IMPLICIT], &[], Ok(RLE)),
            (
                &[J2K_LOSSLESS, RLE, IMPLICIT],
                &[RLE, J2K_LOSSLESS, IMPLICIT],
                &[J2K_LOSSLESS],
                Ok(J2K_LOSSLESS),
            ),
            // Lossy alone is how the instance is.
            (&[BASELINE, EXPLICIT], &[BASELINE], &[], Ok(BASELINE)),
            (&[BASELINE, J2K], &[J2K, BASELINE], &[BASELINE], Ok(BASELINE)),
            // Beside a lossless one it would be made for us, whatever the destination or the list say.
            (&[BASELINE, EXPLICIT], &[BASELINE, EXPLICIT], &[BASELINE], Ok(EXPLICIT)),
            (&[BASELINE], &[BASELINE, EXPLICIT], &[BASELINE], Err(4)),
            (&[BASELINE], &[BASELINE, RLE], &[], Err(4)),
        ];
        for (accepted, offered, prefer, want) in cases {
            let class = Uid::parse(CT).unwrap();
            let mirror: Mirror = uids(accepted).into_iter().map(|syntax| (class.clone(), syntax)).collect();
            let want = want.map(str::to_owned);
            assert_eq!(choose(&mirror, CT, offered, prefer), want, "{accepted:?} {offered:?} {prefer:?}");
            assert_eq!(choose(&mirror, MR, offered, prefer), Err(3));
            assert_eq!(choose(&mirror, VERIFICATION, &[IMPLICIT], prefer), Ok(IMPLICIT.to_owned()));
        }
    }

    #[test]
    fn re_encoding_makes_three_of_one_and_nothing_of_none() {
        let pair = |class, syntax| (Uid::parse(class).unwrap(), Uid::parse(syntax).unwrap());
        let mirror: Mirror = [pair(CT, IMPLICIT), pair(MR, RLE)].into_iter().collect();
        let mirror = mirror.with_reencoding();
        assert_eq!(choose(&mirror, CT, &[EXPLICIT], &[]), Ok(EXPLICIT.into()));
        assert_eq!(choose(&mirror, CT, &[DEFLATED], &[]), Ok(DEFLATED.into()));
        assert_eq!(choose(&mirror, CT, &[RLE], &[]), Err(4));
        assert_eq!(choose(&mirror, MR, &[EXPLICIT], &[]), Err(4));
    }

    #[test]
    fn several_destinations_are_their_union() {
        let pair = |class, syntax| (Uid::parse(class).unwrap(), Uid::parse(syntax).unwrap());
        let mut mirror: Mirror = [pair(CT, EXPLICIT)].into_iter().collect();
        mirror.extend([pair(CT, RLE), pair(MR, EXPLICIT)]);
        assert_eq!(mirror.pairs().count(), 3);
        assert!(!mirror.is_empty() && Mirror::default().is_empty());
    }
}
