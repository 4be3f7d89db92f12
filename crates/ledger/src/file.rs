use base::{Fingerprint, Name};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use identity::{IdentityPublic, PeerCard};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::batch::{RootCache, VerifyError, signed_by_any};
use crate::codec::DecodeError;
use crate::log_proof::{LogProof, LogProofError};
use crate::manifest::Manifest;
use crate::receipt::{Expectation, Mismatch, Receipt};
use crate::settlement::{Class, Settlement};

const FORMAT: &str = "sluis receipt 2";
const FILE_BYTES_MAX: usize = 32 * 1024;

/// A receipt with its signatures: one text file that verifies alone and offline, against the receiver's card and, for
/// who sent and for its place in a log, against the sender's and the relay's.
///
/// The file is JSON. `receipt`, `settlement` and `manifest` hold the signed bytes in base64, `log` a proof; `says`
/// repeats the receipt for people and is refused where it says anything else. FORMAT.md has the details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptFile {
    receipt: Receipt,
    settlement: Settlement,
    manifest: Option<Manifest>,
    log: Option<LogProof>,
}

/// The cards that a receipt file is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Cards<'a> {
    /// The receiving gateway's.
    pub receiver: &'a PeerCard,
    /// The sending gateway's, to prove who sent.
    pub sender: Option<&'a PeerCard>,
    /// The relay's, to prove the place in its log.
    pub relay: Option<&'a PeerCard>,
}

/// What a receipt file proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Field by field, for a screen. What is not in the file is said.
    pub says: Vec<(&'static str, String)>,
    /// What is in the file and could not be checked without a card.
    pub unchecked: Vec<&'static str>,
}

/// Why a receipt is not believed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ReceiptFileError {
    /// The text is not such a file.
    #[error("not a receipt file: {0}")]
    Format(String),
    /// The readable part does not repeat the signed part.
    #[error("the readable field {0:?} differs from what is signed")]
    Readable(String),
    /// Everything is there, but not in the form in which it is written.
    #[error("the text differs from the form in which receipt files are written")]
    Form,
    /// The receipt's bytes.
    #[error("receipt: {0}")]
    Receipt(DecodeError),
    /// The settlement's bytes.
    #[error("settlement: {0}")]
    Settlement(DecodeError),
    /// The manifest's bytes.
    #[error("manifest: {0}")]
    Manifest(DecodeError),
    /// The proof, or the log's signature.
    #[error("log: {0}")]
    Log(#[from] LogProofError),
    /// The proof is not there.
    #[error("the file has no proof: it is not in a log")]
    NoLog,
    /// The settlement is a deferral or a nack.
    #[error("the settlement is not a final one")]
    NotFinal,
    /// The settlement is about another receipt.
    #[error("the settlement does not commit to this receipt")]
    OtherReceipt,
    /// The manifest is about another receipt.
    #[error("the sender's manifest is about another receipt")]
    OtherManifest,
    /// The sender has not signed, or its signature is not in the file.
    #[error("the file has no manifest of the sender: who sent is the receiver's word only")]
    NoManifest,
    /// The receipt names another sender than the card.
    #[error("the receipt is for what {receipt} sent, the card is of {card}")]
    OtherSender {
        /// Named in the receipt.
        receipt: Name,
        /// Named in the card.
        card: Name,
    },
    /// The sender's signature.
    #[error("the sender's manifest: {0}")]
    VerifyManifest(VerifyError),
    /// The receipt names another receiver than the card.
    #[error("the receipt is signed for receiver {receipt}, the card is of {card}")]
    OtherReceiver {
        /// Named in the receipt.
        receipt: Name,
        /// Named in the card.
        card: Name,
    },
    /// The receiver's name fits and its keys do not.
    #[error("the receipt names other identity keys of {0} than the card; ask for the card of that time")]
    OtherKeys(Name),
    /// Path or signature.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Genuine, but of another delivery.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

impl ReceiptFile {
    /// Joins a receipt with the settlement that commits to it. Signatures are not checked here.
    pub fn new(receipt: Receipt, settlement: Settlement) -> Result<Self, ReceiptFileError> {
        let Class::Final(digest) = settlement.class() else {
            return Err(ReceiptFileError::NotFinal);
        };
        let same = settlement.delivery() == receipt.delivery && settlement.attempt() == receipt.attempt;
        if !same || digest != receipt.digest() {
            return Err(ReceiptFileError::OtherReceipt);
        }
        Ok(Self { receipt, settlement, manifest: None, log: None })
    }

    /// Adds what the sender signed. Its signature is not checked here.
    pub fn with_manifest(self, manifest: Manifest) -> Result<Self, ReceiptFileError> {
        if !manifest.is_about(&self.receipt) {
            return Err(ReceiptFileError::OtherManifest);
        }
        Ok(Self { manifest: Some(manifest), ..self })
    }

    /// Adds the proof that the settlement is in a relay's log. The log's signatures are not checked here.
    pub fn with_log(self, proof: LogProof) -> Result<Self, ReceiptFileError> {
        // Whatever it was made for: it has to be of this receipt.
        let text = proof.to_text();
        let proof = LogProof::parse(&text, &self.receipt.delivery, &self.receipt.digest())?;
        Ok(Self { log: Some(proof), ..self })
    }

    /// As [`ReceiptFile::with_log`], from the proof's text.
    pub fn with_log_text(self, text: &str) -> Result<Self, ReceiptFileError> {
        let proof = LogProof::parse(text, &self.receipt.delivery, &self.receipt.digest())?;
        Ok(Self { log: Some(proof), ..self })
    }

    /// Joins the bytes that came from a receiver, the opened record and the settlement, and the sender's manifest.
    pub fn from_parts(
        receipt: &[u8],
        settlement: &[u8],
        manifest: Option<&[u8]>,
    ) -> Result<Self, ReceiptFileError> {
        let receipt = Receipt::decode(receipt).map_err(ReceiptFileError::Receipt)?;
        let settlement = Settlement::decode(settlement).map_err(ReceiptFileError::Settlement)?;
        let file = Self::new(receipt, settlement)?;
        match manifest {
            Some(bytes) => file.with_manifest(Manifest::decode(bytes).map_err(ReceiptFileError::Manifest)?),
            None => Ok(file),
        }
    }

    /// What is said, whether or not it is true: [`ReceiptFile::verify`] tells.
    pub fn unverified(&self) -> &Receipt {
        &self.receipt
    }

    /// The signed settlement.
    pub fn settlement(&self) -> &Settlement {
        &self.settlement
    }

    /// The sender's manifest, if the file has it.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Checks against the sender's card that it has signed that it sent this.
    pub fn verify_sender(&self, signer: &PeerCard) -> Result<(), ReceiptFileError> {
        let manifest = self.manifest.as_ref().ok_or(ReceiptFileError::NoManifest)?;
        let sender = &self.receipt.sender;
        if sender.name != signer.name {
            let (receipt, card) = (sender.name.clone(), signer.name.clone());
            return Err(ReceiptFileError::OtherSender { receipt, card });
        }
        // Keys that were rotated later were good at the time of the receipt.
        let signers = signer.identities(self.receipt.answered_at);
        signed_by_any(signers, |signer| manifest.verify(signer)).map_err(ReceiptFileError::VerifyManifest)
    }

    /// The place in a relay's log, if the file has it.
    pub fn log(&self) -> Option<&LogProof> {
        self.log.as_ref()
    }

    /// Checks against the relay's card that the settlement is in its log.
    pub fn verify_log(&self, relay: &PeerCard) -> Result<(), ReceiptFileError> {
        Ok(self.log.as_ref().ok_or(ReceiptFileError::NoLog)?.verify(relay)?)
    }

    /// Checks against the receiver's card, as it stood at the time of the receipt, and returns what it signed.
    pub fn verify(&self, signer: &PeerCard) -> Result<&Receipt, ReceiptFileError> {
        self.verify_receiver(&signer.name, signer.id())?;
        let signers = signer.identities(self.receipt.answered_at);
        signed_by_any(signers, |signer| self.settlement.verify(signer))?;
        Ok(&self.receipt)
    }

    /// Checks everything that the cards allow, and answers what is proven. A card without its signature in the file
    /// refuses it.
    pub fn check(&self, cards: &Cards<'_>) -> Result<Proven, ReceiptFileError> {
        let receipt = self.verify(cards.receiver)?;
        if let Some(sender) = cards.sender {
            self.verify_sender(sender)?;
        }
        let (sender, receiver) = (&receipt.sender.name, &receipt.receiver.name);
        let mut unchecked = Vec::new();
        let sent_by = match (cards.sender, &self.manifest) {
            (Some(_), _) => format!("{sender}, signed by it"),
            (None, Some(_)) => {
                unchecked.push("the sender's signature");
                format!("{sender}, by the receiver's word: without its card its signature was not checked")
            }
            (None, None) => format!("{sender}, by the receiver's word: the file has no signature of it"),
        };
        if let Some(relay) = cards.relay {
            self.verify_log(relay)?;
        }
        let place =
            |log: &LogProof| format!("entry {} of {} in {}", log.index(), log.head().size, log.head().origin);
        let log = match (cards.relay, &self.log) {
            (Some(_), Some(log)) => format!("{}, signed by the relay", place(log)),
            (None, Some(log)) => {
                unchecked.push("the log's signature");
                format!("{}, not checked without the relay's card", place(log))
            }
            (_, None) => "not in a log".to_owned(),
        };
        let mut says = self.says();
        says.push(("received_by", format!("{receiver}, signed by it")));
        says.push(("sent_by", sent_by));
        says.push(("log", log));
        Ok(Proven { says, unchecked })
    }

    /// What a sending gateway asks before it ends custody: the pinned receiver's signature, by one of the identities that
    /// count now, and that the receipt is about this very delivery.
    pub fn verify_for<'a>(
        &self,
        want: &Expectation<'_>,
        signers: impl IntoIterator<Item = &'a IdentityPublic>,
        cache: &mut RootCache,
    ) -> Result<&Receipt, ReceiptFileError> {
        self.verify_receiver(&want.receiver.name, want.receiver.fingerprint)?;
        self.settlement.verify_any(signers, cache)?;
        self.receipt.expect(want)?;
        Ok(&self.receipt)
    }

    fn verify_receiver(&self, name: &Name, id: Fingerprint) -> Result<(), ReceiptFileError> {
        let receiver = &self.receipt.receiver;
        if receiver.name != *name {
            return Err(ReceiptFileError::OtherReceiver {
                receipt: receiver.name.clone(),
                card: name.clone(),
            });
        }
        if receiver.fingerprint != id {
            return Err(ReceiptFileError::OtherKeys(name.clone()));
        }
        Ok(())
    }

    /// What the receipt says, and what the sender says beside it.
    pub fn says(&self) -> Vec<(&'static str, String)> {
        let mut says = self.receipt.says();
        let report = self.manifest.as_ref().and_then(|manifest| manifest.core.report);
        says.extend(report.map(|report| ("pseudonymized", format!("report {report}"))));
        says
    }

    /// The file's text. The order of its lines is fixed here, so that it does not depend on how a JSON library is built.
    pub fn to_text(&self) -> String {
        let mut text = format!("{{\n  \"format\": {},\n  \"says\": {{\n", json(FORMAT));
        let says: Vec<String> = self
            .says()
            .into_iter()
            .map(|(key, value)| format!("    {}: {}", json(key), json(&value)))
            .collect();
        text.push_str(&says.join(",\n"));
        text.push_str("\n  },\n");
        let base64 = |bytes: Vec<u8>| json(&BASE64.encode(bytes));
        let manifest = self.manifest.as_ref().map_or_else(|| "null".to_owned(), |m| base64(m.encode()));
        text.push_str(&format!("  \"receipt\": {},\n", base64(self.receipt.encode())));
        text.push_str(&format!("  \"settlement\": {},\n", base64(self.settlement.encode())));
        text.push_str(&format!("  \"manifest\": {manifest},\n"));
        let log = self.log.as_ref().map_or_else(|| "null".to_owned(), |log| json(&log.to_text()));
        text.push_str(&format!("  \"log\": {log}\n}}\n"));
        text
    }

    /// Reads a file's text. It must be, but for the line ends, exactly what [`ReceiptFile::to_text`] writes.
    pub fn parse(text: &str) -> Result<Self, ReceiptFileError> {
        let format = |what: &str| ReceiptFileError::Format(what.to_owned());
        if text.len() > FILE_BYTES_MAX {
            return Err(ReceiptFileError::Format(format!("{} bytes exceed {FILE_BYTES_MAX}", text.len())));
        }
        let text = text.replace("\r\n", "\n");
        let file: Map<String, Value> =
            serde_json::from_str(&text).map_err(|e| ReceiptFileError::Format(e.to_string()))?;
        if file.get("format").and_then(Value::as_str) != Some(FORMAT) {
            return Err(ReceiptFileError::Format(format!("it does not say \"format\": {FORMAT:?}")));
        }
        let bytes = |key: &str| {
            let text = file
                .get(key)
                .and_then(Value::as_str)
                .ok_or_else(|| format(&format!("{key:?} is missing")))?;
            BASE64.decode(text).map_err(|_| format(&format!("{key:?} is not base64")))
        };
        let manifest = match file.get("manifest") {
            Some(Value::Null) => None,
            _ => Some(bytes("manifest")?),
        };
        let parsed = Self::from_parts(&bytes("receipt")?, &bytes("settlement")?, manifest.as_deref())?;
        let parsed = match file.get("log") {
            Some(Value::Null) => parsed,
            Some(Value::String(log)) => parsed.with_log_text(log)?,
            _ => return Err(format("\"log\" is missing")),
        };
        let readable =
            file.get("says").and_then(Value::as_object).ok_or_else(|| format("\"says\" is missing"))?;
        for (key, value) in parsed.says() {
            if readable.get(key).and_then(Value::as_str) != Some(value.as_str()) {
                return Err(ReceiptFileError::Readable(key.to_owned()));
            }
        }
        if text != parsed.to_text() {
            return Err(ReceiptFileError::Form);
        }
        Ok(parsed)
    }
}

fn json(text: &str) -> String {
    Value::from(text).to_string()
}
