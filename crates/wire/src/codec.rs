use std::marker::PhantomData;

use base::limits::CONTROL_FRAME_BYTES_MAX;
use minicbor::{Decode, Encode};
use thiserror::Error;

/// A frame begins with its length: four bytes, big endian, not counted in it.
const LENGTH_BYTES: usize = 4;

/// Why bytes are not a frame, or a frame cannot be written.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The peer announced a frame above the limit.
    #[error("control frame of {0} bytes exceeds {CONTROL_FRAME_BYTES_MAX}")]
    PeerTooLong(usize),
    /// The peer sent something that is no frame of the expected kind.
    #[error("control frame cannot be decoded: {0}")]
    PeerMalformed(&'static str),
    /// The stream ended inside a frame.
    #[error("control stream ended inside a frame")]
    PeerTruncated,
    /// We tried to write a frame above the limit.
    #[error(
        "control frame of {0} bytes would exceed {CONTROL_FRAME_BYTES_MAX}; the caller must keep to the limits of its fields"
    )]
    OwnTooLong(usize),
}

/// Appends a frame with its length to `out`. On an error `out` is as before.
pub fn encode_frame<T: Encode<()>>(frame: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    // Writing to a Vec cannot fail, and none of our types refuses to be encoded.
    if minicbor::encode(frame, &mut *out).is_err() {
        out.truncate(start);
        return Err(FrameError::PeerMalformed("frame cannot be encoded"));
    }
    let length = out.len() - start - LENGTH_BYTES;
    match (u32::try_from(length), out.get_mut(start..start + LENGTH_BYTES)) {
        (Ok(prefix), Some(slot)) if length <= CONTROL_FRAME_BYTES_MAX => {
            slot.copy_from_slice(&prefix.to_be_bytes());
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(FrameError::OwnTooLong(length))
        }
    }
}

/// Cuts a control stream into frames of one kind. Bytes may come in any pieces; a frame that is not
/// complete yet is an ordinary outcome. It holds at most one frame beyond what it was last fed.
#[derive(Debug)]
pub struct FrameDecoder<T> {
    buffer: Vec<u8>,
    consumed: usize,
    kind: PhantomData<fn() -> T>,
}

impl<T> Default for FrameDecoder<T> {
    fn default() -> Self {
        Self { buffer: Vec::new(), consumed: 0, kind: PhantomData }
    }
}

impl<T> FrameDecoder<T> {
    /// Adds bytes of the stream. Take out all frames before feeding again.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The same bytes, to be read as frames of another kind (after the greeting).
    pub fn into_kind<U>(self) -> FrameDecoder<U> {
        FrameDecoder { buffer: self.buffer, consumed: self.consumed, kind: PhantomData }
    }

    /// Checks that the stream did not end inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.consumed == self.buffer.len() { Ok(()) } else { Err(FrameError::PeerTruncated) }
    }
}

impl<T: Encode<()> + for<'b> Decode<'b, ()>> FrameDecoder<T> {
    /// The next complete frame, or None until more bytes come.
    pub fn next_frame(&mut self) -> Result<Option<T>, FrameError> {
        let rest = self.buffer.get(self.consumed..).unwrap_or_default();
        let Some((prefix, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if length > CONTROL_FRAME_BYTES_MAX {
            return Err(FrameError::PeerTooLong(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let frame = decode_canonical(body)?;
        self.consumed += LENGTH_BYTES + length;
        Ok(Some(frame))
    }
}

/// One frame has one encoding: what does not come out the same when written again is refused.
fn decode_canonical<T: Encode<()> + for<'b> Decode<'b, ()>>(body: &[u8]) -> Result<T, FrameError> {
    let frame: T =
        minicbor::decode(body).map_err(|_| FrameError::PeerMalformed("not a frame of this direction"))?;
    let mut again = Vec::with_capacity(body.len());
    match minicbor::encode(&frame, &mut again) {
        Ok(()) if again == body => Ok(frame),
        _ => Err(FrameError::PeerMalformed("not in canonical form")),
    }
}

#[cfg(test)]
mod tests {
    use base::{Attempt, BootId, DeliveryId, Digest, Fingerprint, RouteId};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        CloseCode, DeclineCode, Greeting, Hello, LogHead, Logged, NoticeKind, RecipientFrame, RelayState,
        Role, SenderFrame, ToRecipient, ToSender, UnansweredCode, Urgency,
    };

    fn octets() -> impl Strategy<Value = crate::Octets> {
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Into::into)
    }
    prop_compose! { fn delivery()(b in any::<[u8; 32]>()) -> DeliveryId { DeliveryId(b) } }
    prop_compose! { fn peer()(b in any::<[u8; 32]>()) -> Fingerprint { Fingerprint(b) } }
    prop_compose! { fn route()(b in any::<[u8; 16]>()) -> RouteId { RouteId(b) } }
    prop_compose! { fn urgency()(n in 0..Urgency::COUNT) -> Urgency { Urgency::ALL[n] } }
    prop_compose! { fn attempt()(n in any::<u32>()) -> Attempt { Attempt(n) } }

    fn sender_frame() -> impl Strategy<Value = SenderFrame> {
        prop_oneof![
            (peer(), route()).prop_map(|(recipient, route)| SenderFrame::PrekeyRequest { recipient, route }),
            (
                any::<u64>(),
                delivery(),
                attempt(),
                peer(),
                route(),
                octets(),
                any::<Option<u64>>(),
                any::<Option<[u8; 32]>>(),
                urgency()
            )
                .prop_map(
                    |(transfer, delivery, attempt, recipient, route, header, size, digest, urgency)| {
                        SenderFrame::Offer {
                            transfer,
                            delivery,
                            attempt,
                            recipient,
                            route,
                            header,
                            size,
                            digest: digest.map(Digest),
                            urgency,
                        }
                    }
                ),
            (peer(), delivery(), attempt()).prop_map(|(recipient, delivery, attempt)| SenderFrame::Cancel {
                recipient,
                delivery,
                attempt
            }),
            (peer(), delivery(), attempt(), proptest::option::of(octets())).prop_map(
                |(recipient, delivery, attempt, manifest)| SenderFrame::Ack {
                    recipient,
                    delivery,
                    attempt,
                    manifest
                }
            ),
            (peer(), route(), octets()).prop_map(|(recipient, route, bytes)| SenderFrame::SessionClose {
                recipient,
                route,
                bytes
            }),
            "\\PC{0,40}".prop_map(|checkpoint| SenderFrame::Witness { checkpoint }),
            (peer(), delivery(), attempt(), octets()).prop_map(
                |(recipient, delivery, attempt, settlement)| {
                    SenderFrame::Resubmit { recipient, delivery, attempt, settlement }
                }
            ),
            (any::<u64>(), peer(), route(), any::<u32>(), octets()).prop_map(
                |(id, recipient, route, within_ms, question)| SenderFrame::Ask {
                    id,
                    recipient,
                    route,
                    within_ms,
                    question
                }
            ),
        ]
    }

    fn digests() -> impl Strategy<Value = Vec<Digest>> {
        proptest::collection::vec(any::<[u8; 32]>().prop_map(Digest), 0..5)
    }

    fn log_head() -> impl Strategy<Value = LogHead> {
        ("\\PC{0,40}", any::<u64>(), digests()).prop_map(|(checkpoint, from, consistency)| LogHead {
            checkpoint,
            from,
            consistency,
        })
    }

    fn logged() -> impl Strategy<Value = Logged> {
        (delivery(), attempt(), any::<[u8; 16]>(), any::<(u64, u64)>(), digests()).prop_map(
            |(delivery, attempt, salt, (index, size), path)| Logged {
                delivery,
                attempt,
                salt,
                index,
                size,
                path,
            },
        )
    }

    fn to_sender() -> impl Strategy<Value = ToSender> {
        prop_oneof![
            (peer(), route(), proptest::option::of(octets()))
                .prop_map(|(recipient, route, bundle)| ToSender::Prekey { recipient, route, bundle }),
            any::<(u64, u64)>().prop_map(|(transfer, up_to)| ToSender::Grant { transfer, up_to }),
            any::<u64>().prop_map(|transfer| ToSender::Declined { transfer, code: DeclineCode::Busy }),
            (any::<u64>(), any::<Option<[u8; 32]>>()).prop_map(|(transfer, d)| ToSender::Known {
                transfer,
                state: RelayState::Settled,
                digest: d.map(Digest)
            }),
            any::<u64>().prop_map(|transfer| ToSender::Deposited { transfer }),
            (delivery(), attempt()).prop_map(|(delivery, attempt)| ToSender::Collected { delivery, attempt }),
            (delivery(), attempt()).prop_map(|(delivery, attempt)| ToSender::Notice {
                delivery,
                attempt,
                kind: NoticeKind::Gone
            }),
            (delivery(), attempt(), octets(), octets()).prop_map(
                |(delivery, attempt, settlement, record)| {
                    ToSender::Settlement { delivery, attempt, settlement, record }
                }
            ),
            log_head().prop_map(ToSender::LogHead),
            logged().prop_map(ToSender::Logged),
            (any::<u64>(), octets()).prop_map(|(id, answer)| ToSender::Answer { id, answer }),
            any::<u64>().prop_map(|id| ToSender::Unanswered { id, code: UnansweredCode::Away }),
        ]
    }

    fn recipient_frame() -> impl Strategy<Value = RecipientFrame> {
        prop_oneof![
            (
                route(),
                any::<bool>(),
                proptest::collection::vec(octets(), 0..4),
                proptest::option::of(octets())
            )
                .prop_map(|(route, replace, one_time, last_resort)| RecipientFrame::Publish {
                    route,
                    replace,
                    one_time,
                    last_resort
                }),
            (route(), any::<u32>())
                .prop_map(|(route, deliveries)| RecipientFrame::Window { route, deliveries }),
            any::<(u64, u64)>().prop_map(|(transfer, up_to)| RecipientFrame::Grant { transfer, up_to }),
            (peer(), delivery(), attempt(), octets(), octets()).prop_map(
                |(sender, delivery, attempt, settlement, record)| RecipientFrame::Settlement {
                    sender,
                    delivery,
                    attempt,
                    settlement,
                    record
                }
            ),
            proptest::collection::vec(any::<u64>(), 0..40)
                .prop_map(|transfers| RecipientFrame::Renew { transfers }),
            any::<u64>().prop_map(|transfer| RecipientFrame::Release { transfer }),
            "\\PC{0,40}".prop_map(|checkpoint| RecipientFrame::Witness { checkpoint }),
            (peer(), delivery(), attempt(), octets()).prop_map(|(sender, delivery, attempt, settlement)| {
                RecipientFrame::Resubmit { sender, delivery, attempt, settlement }
            }),
            (peer(), any::<u64>(), octets()).prop_map(|(sender, id, answer)| RecipientFrame::Answer {
                sender,
                id,
                answer
            }),
        ]
    }

    fn to_recipient() -> impl Strategy<Value = ToRecipient> {
        prop_oneof![
            (any::<u64>(), delivery(), attempt(), peer(), route(), octets(), any::<Option<u64>>(), urgency())
                .prop_map(|(transfer, delivery, attempt, sender, route, header, size, urgency)| {
                    ToRecipient::Offer { transfer, delivery, attempt, sender, route, header, size, urgency }
                }),
            (route(), any::<u32>()).prop_map(|(route, left)| ToRecipient::PrekeysLow { route, left }),
            (peer(), delivery(), attempt()).prop_map(|(sender, delivery, attempt)| ToRecipient::Cancelled {
                sender,
                delivery,
                attempt
            }),
            (peer(), delivery(), attempt(), proptest::option::of(octets())).prop_map(
                |(sender, delivery, attempt, manifest)| ToRecipient::Acked {
                    sender,
                    delivery,
                    attempt,
                    manifest
                }
            ),
            any::<u64>().prop_map(|transfer| ToRecipient::Withdrawn { transfer }),
            (peer(), route(), octets()).prop_map(|(sender, route, bytes)| ToRecipient::SessionClosed {
                sender,
                route,
                bytes
            }),
            log_head().prop_map(ToRecipient::LogHead),
            logged().prop_map(ToRecipient::Logged),
            (peer(), any::<u64>(), route(), any::<u32>(), octets()).prop_map(
                |(sender, id, route, within_ms, question)| ToRecipient::Ask {
                    sender,
                    id,
                    route,
                    within_ms,
                    question
                }
            ),
        ]
    }

    /// Writes the frames, feeds them in pieces of `step` bytes, and wants the same frames back.
    fn round_trip<T>(frames: &[T], step: usize)
    where
        T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + std::fmt::Debug,
    {
        let mut bytes = Vec::new();
        for frame in frames {
            encode_frame(frame, &mut bytes).unwrap();
        }
        let mut decoder = FrameDecoder::<T>::default();
        let mut got = Vec::new();
        for piece in bytes.chunks(step) {
            decoder.feed(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                got.push(frame);
            }
        }
        decoder.finish().unwrap();
        assert_eq!(got, frames);
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(
            a in proptest::collection::vec(sender_frame(), 0..6), b in proptest::collection::vec(to_sender(), 0..6),
            c in proptest::collection::vec(recipient_frame(), 0..6), d in proptest::collection::vec(to_recipient(), 0..6),
            step in 1usize..700,
        ) {
            round_trip(&a, step);
            round_trip(&b, step);
            round_trip(&c, step);
            round_trip(&d, step);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), step in 1usize..50) {
            fn swallow<T: Encode<()> + for<'b> Decode<'b, ()>>(bytes: &[u8], step: usize) {
                let mut framed = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
                framed.extend_from_slice(bytes);
                for input in [bytes, &framed] {
                    let mut decoder = FrameDecoder::<T>::default();
                    'pieces: for piece in input.chunks(step) {
                        decoder.feed(piece);
                        loop {
                            match decoder.next_frame() {
                                Ok(Some(_)) => {}
                                Ok(None) => break,
                                Err(_) => break 'pieces,
                            }
                        }
                    }
                }
            }
            swallow::<SenderFrame>(&bytes, step);
            swallow::<ToSender>(&bytes, step);
            swallow::<RecipientFrame>(&bytes, step);
            swallow::<ToRecipient>(&bytes, step);
            swallow::<Hello>(&bytes, step);
            swallow::<Greeting>(&bytes, step);
        }

        #[test]
        fn a_damaged_frame_is_refused_or_is_another_frame(frame in to_recipient(), at in any::<proptest::sample::Index>(), bit in 0u8..8) {
            let mut bytes = Vec::new();
            encode_frame(&frame, &mut bytes).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let mut decoder = FrameDecoder::<ToRecipient>::default();
            decoder.feed(&bytes);
            if let Ok(Some(other)) = decoder.next_frame() {
                prop_assert_ne!(other, frame);
            }
        }
    }

    #[test]
    fn the_greeting_and_what_follows_in_the_same_bytes_are_told_apart() {
        let mut bytes = Vec::new();
        encode_frame(&Hello { protocol: 1, role: Role::Sender }, &mut bytes).unwrap();
        encode_frame(
            &SenderFrame::PrekeyRequest { recipient: Fingerprint([1; 32]), route: RouteId([2; 16]) },
            &mut bytes,
        )
        .unwrap();
        let mut decoder = FrameDecoder::<Hello>::default();
        decoder.feed(&bytes);
        assert_eq!(decoder.next_frame(), Ok(Some(Hello { protocol: 1, role: Role::Sender })));
        let mut decoder = decoder.into_kind::<SenderFrame>();
        assert!(matches!(decoder.next_frame(), Ok(Some(SenderFrame::PrekeyRequest { .. }))));
        assert_eq!(decoder.next_frame(), Ok(None));
    }

    #[test]
    fn length_order_and_shape_are_enforced() {
        let frame = |body: &[u8]| {
            let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
            bytes.extend_from_slice(body);
            bytes
        };
        let cases: [(&str, Vec<u8>, FrameError); 6] = [
            ("too long", vec![0, 1, 0, 1], FrameError::PeerTooLong(65_537)),
            ("all ones", vec![0xFF; 4], FrameError::PeerTooLong(0xFFFF_FFFF)),
            ("empty", frame(&[]), FrameError::PeerMalformed("not a frame of this direction")),
            (
                "a long integer",
                frame(&[0x82, 0x18, 0x01, 0x00]),
                FrameError::PeerMalformed("not in canonical form"),
            ),
            (
                "trailing byte",
                frame(&[0x82, 0x01, 0x00, 0x00]),
                FrameError::PeerMalformed("not in canonical form"),
            ),
            (
                "unknown role",
                frame(&[0x82, 0x01, 0x07]),
                FrameError::PeerMalformed("not a frame of this direction"),
            ),
        ];
        for (name, bytes, want) in cases {
            let mut decoder = FrameDecoder::<Hello>::default();
            decoder.feed(&bytes);
            assert_eq!(decoder.next_frame(), Err(want), "{name}");
        }
    }

    #[test]
    fn a_frame_above_the_limit_is_not_written() {
        let header = vec![0u8; CONTROL_FRAME_BYTES_MAX];
        let frame = Greeting::Bye { code: CloseCode::Version, text: String::from_utf8(header).unwrap() };
        let mut out = vec![7];
        assert!(matches!(encode_frame(&frame, &mut out), Err(FrameError::OwnTooLong(_))));
        assert_eq!(out, [7]);
        let boot = Greeting::Welcome { boot: BootId([0; 16]), hold_max: 1, lease_ms: 2 };
        encode_frame(&boot, &mut out).unwrap();
    }
}
