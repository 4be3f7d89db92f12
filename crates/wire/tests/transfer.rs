//! A body from a sender through a relay to a recipient, over links that carry frames and bytes in any pieces.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is the test's result")]

use base::Digest;
use proptest::prelude::*;
use wire::{
    BodyDecoder, Collect, CollectError, DeclineCode, Deposit, Inflow, Outflow, RelayState, ToSender, Verdict,
    Violation,
};

const TRANSFER: u64 = 7;

/// The three accounts of one body and the bytes between them.
struct Passage {
    body: Vec<u8>,
    deposit: Deposit,
    sent: usize,
    ended: bool,
    /// Sender to relay.
    first: Vec<u8>,
    inflow: Inflow,
    decoder: Option<BodyDecoder>,
    digest: Option<Digest>,
    held: Vec<u8>,
    outflow: Outflow,
    finished: bool,
    /// Relay to recipient.
    second: Vec<u8>,
    collect: Option<Collect>,
    got: Vec<u8>,
    end: Option<Digest>,
}

impl Passage {
    fn new(body: Vec<u8>, announced: bool, in_flight: u64) -> Self {
        let size = announced.then_some(body.len() as u64);
        Self {
            body,
            deposit: Deposit::offered(TRANSFER),
            sent: 0,
            ended: false,
            first: Vec::new(),
            inflow: Inflow::new(TRANSFER, size),
            decoder: Some(BodyDecoder::default()),
            digest: None,
            held: Vec::new(),
            outflow: Outflow::new(in_flight),
            finished: false,
            second: Vec::new(),
            collect: Some(Collect::new(TRANSFER, size)),
            got: Vec::new(),
            end: None,
        }
    }

    fn relay_grants(&mut self, more: u64) {
        if let Some(up_to) = self.inflow.grant(self.inflow.received() + more) {
            self.deposit.handle(&ToSender::Grant { transfer: TRANSFER, up_to }).unwrap();
        }
    }

    fn sender_sends(&mut self, most: usize) {
        if !self.deposit.admitted() || self.ended {
            return;
        }
        let credit = self.deposit.credit(self.sent as u64) as usize;
        let count = credit.min(most).min(self.body.len() - self.sent);
        self.first.extend_from_slice(&self.body[self.sent..self.sent + count]);
        self.sent += count;
        if self.sent == self.body.len() {
            self.first.extend_from_slice(&Digest::of(&self.body).0);
            self.ended = true;
        }
    }

    fn relay_reads(&mut self, most: usize) {
        let Some(decoder) = &mut self.decoder else { return };
        let piece: Vec<u8> = self.first.drain(..self.first.len().min(most)).collect();
        let before = self.held.len();
        decoder.feed([piece.as_slice()].into_iter(), &mut self.held);
        self.inflow.receive((self.held.len() - before) as u64).unwrap();
        if self.ended && self.first.is_empty() {
            self.inflow.finish().unwrap();
            self.digest = self.decoder.take().map(|decoder| decoder.finish().unwrap());
            self.deposit.handle(&ToSender::Deposited { transfer: TRANSFER }).unwrap();
        }
    }

    fn recipient_grants(&mut self, more: u64) {
        let Some(collect) = &mut self.collect else { return };
        collect.grant(more);
        self.outflow.grant(collect.granted());
    }

    fn relay_writes(&mut self) {
        let from = self.outflow.next() as usize;
        let count = (self.outflow.room() as usize).min(self.held.len() - from);
        self.second.extend_from_slice(&self.held[from..from + count]);
        self.outflow.queue(count as u64);
        if let Some(digest) = self.digest.filter(|_| !self.finished && from + count == self.body.len()) {
            self.finished = self.outflow.open();
            if self.finished {
                self.second.extend_from_slice(&digest.0);
            }
        }
    }

    fn recipient_reads(&mut self, most: usize) {
        let Some(collect) = &mut self.collect else { return };
        let piece: Vec<u8> = self.second.drain(..self.second.len().min(most)).collect();
        self.outflow.written(piece.len() as u64);
        collect.feed([piece.as_slice()].into_iter(), &mut self.got).unwrap();
        assert!(collect.received() <= collect.granted());
        if self.finished && self.second.is_empty() {
            self.end = self.collect.take().map(|collect| collect.finish().unwrap());
        }
    }
}

proptest! {
    #[test]
    fn every_byte_arrives_once_whatever_the_grants_and_the_pieces(
        body in proptest::collection::vec(any::<u8>(), 0..5000), announced in any::<bool>(), in_flight in 1u64..2000,
        steps in proptest::collection::vec((0u8..6, 1u64..900), 0..300),
    ) {
        let mut passage = Passage::new(body.clone(), announced, in_flight);
        // Any order first, then everybody in turn until it is done.
        let turns = (0..60_000).map(|n| ((n % 6) as u8, 40 + n % 500));
        for (step, amount) in steps.into_iter().chain(turns) {
            match step {
                0 => passage.relay_grants(amount),
                1 => passage.sender_sends(amount as usize),
                2 => passage.relay_reads(amount as usize),
                3 => passage.recipient_grants(amount),
                4 => passage.relay_writes(),
                _ => passage.recipient_reads(amount as usize),
            }
            if passage.end.is_some() {
                break;
            }
        }
        prop_assert_eq!(passage.end, Some(Digest::of(&body)));
        prop_assert_eq!(passage.got, body);
        prop_assert_eq!(passage.deposit.verdict(), Some(Verdict::Deposited));
    }
}

#[test]
fn each_account_refuses_what_breaks_it() {
    let mut inflow = Inflow::new(1, Some(10));
    assert_eq!(inflow.receive(1), Err(Violation::BeyondGrant { transfer: 1, received: 1, granted: 0 }));
    assert_eq!(inflow.grant(99), Some(10));
    assert_eq!(inflow.grant(99), None);
    inflow.receive(9).unwrap();
    assert_eq!(inflow.finish(), Err(Violation::Length { transfer: 1, announced: 10, received: 9 }));
    assert_eq!(inflow.receive(2), Err(Violation::BeyondGrant { transfer: 1, received: 11, granted: 10 }));

    let mut collect = Collect::new(2, None);
    collect.grant(5);
    let bytes = [0; 6 + 32];
    let fed = collect.feed([bytes.as_slice()].into_iter(), &mut Vec::new());
    assert_eq!(fed, Err(Violation::BeyondGrant { transfer: 2, received: 6, granted: 5 }));
    let mut short = Collect::new(3, Some(4));
    short.grant(4);
    short.feed([[0; 32].as_slice()].into_iter(), &mut Vec::new()).unwrap();
    let length = Violation::Length { transfer: 3, announced: 4, received: 0 };
    assert_eq!(short.finish(), Err(CollectError::Peer(length)));
    assert!(matches!(Collect::new(4, None).finish(), Err(CollectError::Body(_))));
}

#[test]
fn a_deposit_believes_one_verdict_about_itself() {
    let mut deposit = Deposit::offered(5);
    assert_eq!(deposit.handle(&ToSender::Deposited { transfer: 5 }), Err(Violation::OutOfState(5)));
    assert_eq!(deposit.handle(&ToSender::Grant { transfer: 6, up_to: 9 }), Err(Violation::OutOfState(6)));
    assert!(!deposit.admitted());
    deposit.handle(&ToSender::Grant { transfer: 5, up_to: 9 }).unwrap();
    deposit.handle(&ToSender::Grant { transfer: 5, up_to: 3 }).unwrap();
    assert_eq!((deposit.credit(0), deposit.credit(4), deposit.credit(20)), (9, 5, 0));
    deposit.handle(&ToSender::Declined { transfer: 5, code: DeclineCode::Ended }).unwrap();
    let known = ToSender::Known { transfer: 5, state: RelayState::Settled, digest: None };
    deposit.handle(&known).unwrap();
    assert_eq!(deposit.verdict(), Some(Verdict::Declined(DeclineCode::Ended)));
}
