//! An opened data set on its way to a destination. Every byte in it is authenticated; that it is
//! complete is known only when [`Body::next`] has answered `None`.

use std::collections::VecDeque;

use base::Digest;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    change::{Change, Changed, Refusal},
    room::Held,
};

/// Pieces of a streamed body that wait between the opener and the destination. A piece is at most one
/// opened chunk (64 KiB).
pub const STREAM_PIECES_MAX: usize = 16;

/// What is known of a body once its final chunk has verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// SHA-256 of the sealed body.
    pub body_digest: Digest,
    /// SHA-256 of the data set as it came.
    pub data_digest: Digest,
    /// Its length in bytes.
    pub data_len: u64,
}

/// The body ended before its final chunk verified. Whoever sent parts of it on must abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed body ended before its final chunk verified")]
pub struct Incomplete;

/// Nothing more comes of a body. Whoever sent parts of it on must abort.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// It ended too early.
    #[error(transparent)]
    Incomplete(#[from] Incomplete),
    /// It cannot be changed as its destination needs it. What is left of it may be read by [`Body::drain`].
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// See the module.
#[derive(Debug)]
pub struct Body {
    source: Source,
    changing: Changing,
    /// What is not yet changed of a piece.
    left: Bytes,
}

#[derive(Debug)]
enum Source {
    /// Verified as a whole before anybody saw it; its memory is counted by the permit.
    Whole {
        /// The pieces not yet taken.
        pieces: VecDeque<Bytes>,
        /// What the opener found.
        verified: Verified,
        /// Its share of the buffer budget.
        _permit: Option<Held>,
    },
    /// Larger than `verify_first`: passed on while it arrives.
    Streamed {
        /// From the opener.
        pieces: mpsc::Receiver<StreamPiece>,
        /// Set with the last piece.
        verified: Option<Verified>,
    },
}

/// How far the changes are.
#[derive(Debug)]
enum Changing {
    /// There are none.
    Nothing,
    /// Under way.
    Running(Box<Change>),
    /// All of it has passed.
    Done(Box<Changed>),
}

/// What the opener passes on of a streamed body. The channel closing without `End` means abandoned.
#[derive(Debug)]
pub enum StreamPiece {
    /// Authenticated data set bytes.
    Data(Bytes),
    /// The final chunk has verified.
    End(Verified),
}

impl Source {
    async fn next(&mut self) -> Result<Option<Bytes>, Incomplete> {
        match self {
            Self::Whole { pieces, .. } => Ok(pieces.pop_front()),
            Self::Streamed { verified: Some(_), .. } => Ok(None),
            Self::Streamed { pieces, verified } => match pieces.recv().await {
                Some(StreamPiece::Data(bytes)) => Ok(Some(bytes)),
                Some(StreamPiece::End(end)) => {
                    *verified = Some(end);
                    Ok(None)
                }
                None => Err(Incomplete),
            },
        }
    }

    fn verified(&self) -> Result<Verified, Incomplete> {
        match self {
            Self::Whole { verified, .. } => Ok(*verified),
            Self::Streamed { verified, .. } => verified.ok_or(Incomplete),
        }
    }
}

impl Body {
    /// Verified as a whole before anybody saw it; its memory is counted by the permit.
    pub fn whole(pieces: VecDeque<Bytes>, verified: Verified, permit: Option<Held>) -> Self {
        Self::of(Source::Whole { pieces, verified, _permit: permit })
    }

    /// Passed on while it arrives.
    pub fn streamed(pieces: mpsc::Receiver<StreamPiece>) -> Self {
        Self::of(Source::Streamed { pieces, verified: None })
    }

    fn of(source: Source) -> Self {
        Self { source, changing: Changing::Nothing, left: Bytes::new() }
    }

    /// Changes what comes from here on: to be called before the first piece is taken.
    pub fn change(&mut self, change: Option<Change>) {
        self.changing = change.map_or(Changing::Nothing, |change| Changing::Running(Box::new(change)));
    }

    /// The next piece; `None` once the whole body has been given and its final chunk has verified.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Cut> {
        loop {
            if let Changing::Running(change) = &mut self.changing
                && !self.left.is_empty()
            {
                let out = change.feed(&mut self.left)?;
                if !out.is_empty() {
                    return Ok(Some(out));
                }
                continue;
            }
            let piece = self.source.next().await?;
            match (piece, &mut self.changing) {
                (Some(piece), Changing::Running(_)) => self.left = piece,
                (None, Changing::Running(_)) => {
                    let (last, changed) = self.finish()?;
                    self.changing = Changing::Done(Box::new(changed));
                    if !last.is_empty() {
                        return Ok(Some(last));
                    }
                }
                (piece, Changing::Nothing | Changing::Done(_)) => return Ok(piece),
            }
        }
    }

    fn finish(&mut self) -> Result<(Bytes, Changed), Cut> {
        match std::mem::replace(&mut self.changing, Changing::Nothing) {
            Changing::Running(change) => Ok(change.finish()?),
            Changing::Nothing | Changing::Done(_) => Err(Incomplete.into()),
        }
    }

    /// Reads what nobody will take, to learn whether it is good: a refusal of a bad body would be a lie.
    pub async fn drain(&mut self) -> Result<Verified, Incomplete> {
        while self.source.next().await?.is_some() {}
        self.source.verified()
    }

    /// What is known once [`Body::next`] has answered `None`: of the data set as it came.
    pub fn verified(&self) -> Result<Verified, Incomplete> {
        self.source.verified()
    }

    /// What was changed, once [`Body::next`] has answered `None`.
    pub fn changed(&self) -> Option<&Changed> {
        match &self.changing {
            Changing::Done(changed) => Some(changed),
            Changing::Nothing | Changing::Running(_) => None,
        }
    }

    /// How many bytes are still to come, where that is known: of a whole body that is not changed.
    pub fn known_bytes(&self) -> Option<u64> {
        match (&self.source, &self.changing) {
            (Source::Whole { pieces, .. }, Changing::Nothing) => {
                Some(pieces.iter().map(|piece| piece.len() as u64).sum())
            }
            _ => None,
        }
    }

    /// Whether parts of it may be passed on before the whole is known to be good.
    pub fn is_streamed(&self) -> bool {
        matches!(self.source, Source::Streamed { .. })
    }
}

#[cfg(test)]
mod tests {
    use base::{Name, Timestamp, Uid};
    use dataset::PrivateVr;

    use super::*;
    use crate::{
        change::{NOT_COERCED, NOT_REENCODED, Wanted},
        coercion::{Coercion, Deed},
    };

    const IMPLICIT: &str = "1.2.840.10008.1.2";
    const EXPLICIT: &str = "1.2.840.10008.1.2.1";
    /// (0010,0020) "42", private (0011,0010) "US", (0011,1001) DS "1.5".
    const DATA: &[u8] =
        b"\x10\x00\x20\x00LO\x02\x0042\x11\x00\x10\x00LO\x02\x00US\x11\x00\x01\x10DS\x04\x001.5 ";

    fn uid(text: &str) -> Uid {
        Uid::parse(text).unwrap()
    }

    fn wanted(prefix: Option<&str>, private_vr: PrivateVr) -> Wanted {
        let name = |text| Name::parse(text).unwrap();
        let deeds = |prefix: &str| [("PatientID", Deed::Prefix(prefix.to_owned()))].into();
        let coercion = prefix.map(|prefix| Coercion::new(deeds(prefix), &name("in"), &name("out")).unwrap());
        Wanted { from: uid(EXPLICIT), coercion, first_offered_at: Timestamp(1_000), private_vr }
    }

    fn body(piece: usize) -> Body {
        let pieces = DATA.chunks(piece).map(Bytes::copy_from_slice).collect();
        let verified = Verified {
            body_digest: Digest::of(b"sealed"),
            data_digest: Digest::of(DATA),
            data_len: DATA.len() as u64,
        };
        Body::whole(pieces, verified, None)
    }

    async fn read(body: &mut Body) -> Result<Vec<u8>, Cut> {
        let mut all = Vec::new();
        while let Some(piece) = body.next().await? {
            assert!(!piece.is_empty());
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn without_changes_the_bytes_are_those_that_came() {
        let mut body = body(7);
        body.change(wanted(None, PrivateVr::Keep).change_into(&uid(EXPLICIT)).unwrap());
        assert_eq!(body.known_bytes(), Some(DATA.len() as u64));
        assert_eq!(read(&mut body).await.unwrap(), DATA);
        assert_eq!(body.changed(), None);
    }

    #[tokio::test]
    async fn any_split_is_changed_alike_and_measured() {
        let mut first = None;
        for piece in 1..=DATA.len() {
            let mut body = body(piece);
            body.change(wanted(Some("A-"), PrivateVr::Lose).change_into(&uid(IMPLICIT)).unwrap());
            assert_eq!(body.known_bytes(), None);
            let out = read(&mut body).await.unwrap();
            assert!(out.starts_with(b"\x10\x00\x20\x00\x04\x00\x00\x00A-42"), "{out:?}");
            assert!(out.windows(4).any(|at| at == b"\x00\x04\x61\x05"), "Original Attributes Sequence");
            let changed = body.changed().unwrap().clone();
            assert_eq!((changed.from.as_str(), changed.to.as_str()), (EXPLICIT, IMPLICIT));
            assert_eq!((changed.after.digest, changed.after.bytes), (Digest::of(&out), out.len() as u64));
            assert!(changed.rules.is_some());
            assert_eq!(body.verified().unwrap().data_digest, Digest::of(DATA));
            assert_eq!(*first.get_or_insert_with(|| out.clone()), out);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_changed_is_refused_and_still_read_to_its_end() {
        let long = "P".repeat(63);
        let cases = [
            (wanted(None, PrivateVr::Keep), IMPLICIT, NOT_REENCODED),
            (wanted(Some(&long), PrivateVr::Keep), EXPLICIT, NOT_COERCED),
        ];
        for (wanted, to, status) in cases {
            let mut body = body(5);
            body.change(wanted.change_into(&uid(to)).unwrap());
            let Err(Cut::Refused(refusal)) = read(&mut body).await else { panic!("{status}") };
            assert_eq!(refusal.status(), status);
            assert_eq!(body.changed(), None);
            assert_eq!(body.drain().await.unwrap().data_digest, Digest::of(DATA));
        }
    }

    #[tokio::test]
    async fn a_body_that_is_abandoned_never_ends_as_changed() {
        let (pieces, receiver) = mpsc::channel(4);
        let mut body = Body::streamed(receiver);
        body.change(wanted(Some("A-"), PrivateVr::Keep).change_into(&uid(EXPLICIT)).unwrap());
        pieces.send(StreamPiece::Data(Bytes::from_static(DATA))).await.unwrap();
        drop(pieces);
        assert_eq!(read(&mut body).await, Err(Cut::Incomplete(Incomplete)));
        assert_eq!((body.changed(), body.verified()), (None, Err(Incomplete)));
    }

    #[test]
    fn a_data_set_of_unknown_layout_is_not_coerced() {
        let wanted = Wanted { from: uid("1.2.3.4"), ..wanted(Some("A-"), PrivateVr::Keep) };
        let refusal = wanted.change_into(&uid("1.2.3.4")).unwrap_err();
        assert_eq!((refusal.clone(), refusal.status()), (Refusal::Layout(uid("1.2.3.4")), NOT_COERCED));
    }
}
