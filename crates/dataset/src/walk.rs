use base::{Phi, Uid};
use thiserror::Error;

use crate::element::{Content, ElementHeader, Tag};
use crate::inflate::{InflateError, Inflater};
use crate::limits::VALUE_BYTES_MAX;
use crate::syntax::Syntax;
use crate::token::{Event, TokenError, Tokenizer};

/// Why a data set must not be passed on. Whoever wrote it has to act. No message has patient data in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WalkError {
    /// No element at all.
    #[error("data set is missing: not one element came")]
    Empty,
    /// Its elements.
    #[error(transparent)]
    Structure(#[from] TokenError),
    /// Its compression.
    #[error(transparent)]
    Deflate(#[from] InflateError),
    /// Two different identities in one data set.
    #[error(
        "{tag} stands twice, with different values, on the first level; an element may occur once (PS3.5 7.1)"
    )]
    Ambiguous {
        /// SOP Class UID or SOP Instance UID.
        tag: Tag,
    },
}

/// What the first level says. A field is `None` where the element is absent, empty, longer than any valid
/// value, or (UIDs, modality) not of its kind.
///
/// Text is trimmed of padding. A value that is not UTF-8 has one character per byte: the same bytes always
/// give the same text, which is what an index needs; it is not decoded for people to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// False for a transfer syntax that is not known: then nothing was looked at and all else is empty.
    pub walked: bool,
    /// SOP Class UID (0008,0016).
    pub sop_class: Option<Uid>,
    /// SOP Instance UID (0008,0018).
    pub sop_instance: Option<Phi<Uid>>,
    /// Study Instance UID (0020,000D).
    pub study: Option<Phi<Uid>>,
    /// Series Instance UID (0020,000E).
    pub series: Option<Phi<Uid>>,
    /// Patient ID (0010,0020).
    pub patient_id: Option<Phi<String>>,
    /// Issuer of Patient ID (0010,0021).
    pub patient_id_issuer: Option<Phi<String>>,
    /// Accession Number (0008,0050).
    pub accession: Option<Phi<String>>,
    /// Modality (0008,0060), if it is a code string (PS3.5 §6.2).
    pub modality: Option<String>,
    /// Elements on the first level.
    pub elements: u64,
    /// Whether there is an element of pixel data, of any of the three kinds, on the first level.
    pub pixel_data: bool,
    /// Bytes of the data set, inflated where it was deflated.
    pub data_set_bytes: u64,
}

/// Reads a data set as it passes and changes no byte of it: finds truncation, broken structure and the
/// identifiers of the first level. Memory does not grow with the data set; bytes of values are not looked at.
///
/// Splitting the input anywhere gives the same result. A data set cut exactly between two first-level
/// elements is a whole one; compare [`Findings`] with the command.
pub struct Walker {
    syntax: Option<Syntax>,
    tokens: Option<Tokenizer>,
    inflater: Option<Inflater>,
    reader: Identifiers,
    bytes_in: u64,
    failed: Option<WalkError>,
}

impl Walker {
    /// For a data set in this transfer syntax. For a private or unknown one the walk is off.
    pub fn new(transfer_syntax: &Uid) -> Self {
        let syntax = Syntax::of(transfer_syntax);
        Self {
            syntax,
            tokens: syntax.map(|syntax| Tokenizer::new(syntax.encoding)),
            inflater: syntax.filter(|syntax| syntax.deflated).map(|_| Inflater::new()),
            reader: Identifiers::default(),
            bytes_in: 0,
            failed: None,
        }
    }

    /// Whether the transfer syntax is known.
    pub fn is_on(&self) -> bool {
        self.syntax.is_some()
    }

    /// Takes the next bytes of the data set. After an error each call gives that error again.
    ///
    /// The cost is that of the elements' headers, whatever the values' lengths. A deflated data set is inflated
    /// here, and one byte can become a thousand: feed it in pieces of PDV size.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), WalkError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.bytes_in += bytes.len() as u64;
        let result = self.walk(bytes);
        self.failed = result.clone().err();
        result
    }

    /// What was found so far. An identifier that is there stays; one that is not may still come.
    pub fn so_far(&self) -> &Findings {
        &self.reader.findings
    }

    /// Ends the data set: here truncation is found.
    pub fn finish(self) -> Result<Findings, WalkError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.bytes_in == 0 {
            return Err(WalkError::Empty);
        }
        let Some(tokens) = self.tokens else { return Ok(Findings::default()) };
        if let Some(inflater) = &self.inflater {
            inflater.finish()?;
        }
        let offset = tokens.offset();
        let zeros = tokens.finish()? as u64;
        let mut findings = self.reader.findings;
        findings.walked = true;
        findings.data_set_bytes = offset + zeros;
        if findings.elements == 0 {
            return Err(WalkError::Empty);
        }
        Ok(findings)
    }

    /// SOP Class and SOP Instance UID as far as they have come.
    pub(crate) fn sop_uids(&self) -> (Option<&Uid>, Option<&Phi<Uid>>) {
        (self.reader.findings.sop_class.as_ref(), self.reader.findings.sop_instance.as_ref())
    }

    /// Whether they may still come: tags ascend (PS3.5 §7.1).
    pub(crate) fn is_before_sop_uids(&self) -> bool {
        let (class, instance) = self.sop_uids();
        self.reader.group <= Tag::SOP_INSTANCE.0 && (class.is_none() || instance.is_none())
    }

    fn walk(&mut self, mut bytes: &[u8]) -> Result<(), WalkError> {
        let Some(tokens) = &mut self.tokens else { return Ok(()) };
        let Some(inflater) = &mut self.inflater else { return self.reader.read(tokens, bytes) };
        loop {
            let inflated = inflater.next(&mut bytes)?;
            if inflated.is_empty() && bytes.is_empty() {
                return Ok(());
            }
            self.reader.read(tokens, inflated)?;
        }
    }
}

/// Collects the identifiers of the first level.
#[derive(Default)]
struct Identifiers {
    findings: Findings,
    /// Of the first-level element that came last.
    group: u16,
    /// The element whose value is being kept.
    wanted: Option<Tag>,
    value: Vec<u8>,
    too_long: bool,
}

impl Identifiers {
    fn read(&mut self, tokens: &mut Tokenizer, mut bytes: &[u8]) -> Result<(), WalkError> {
        while let Some(event) = tokens.next(&mut bytes)? {
            match event {
                Event::Element(header) if header.depth == 0 => self.element(&header),
                Event::Value(piece) if self.wanted.is_some() => self.keep(piece),
                Event::ValueEnd => self.settle()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn element(&mut self, header: &ElementHeader) {
        self.findings.elements += 1;
        self.group = header.tag.0;
        match header.tag {
            Tag::SOP_CLASS
            | Tag::SOP_INSTANCE
            | Tag::ACCESSION
            | Tag::MODALITY
            | Tag::PATIENT_ID
            | Tag::PATIENT_ID_ISSUER
            | Tag::STUDY
            | Tag::SERIES
                if header.content == Content::Value =>
            {
                self.wanted = Some(header.tag);
                self.value.clear();
                self.too_long = false;
            }
            Tag::PIXEL_DATA | Tag::FLOAT_PIXEL_DATA | Tag::DOUBLE_PIXEL_DATA => {
                self.findings.pixel_data = true
            }
            _ => {}
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = VALUE_BYTES_MAX - self.value.len();
        self.too_long |= piece.len() > room;
        self.value.extend_from_slice(piece.get(..room).unwrap_or(piece));
    }

    fn settle(&mut self) -> Result<(), WalkError> {
        let Some(tag) = self.wanted.take() else { return Ok(()) };
        if self.too_long {
            return Ok(());
        }
        let uid = || Uid::from_value(&self.value).ok();
        let instance = || uid().map(Phi::new);
        let text = || text(&self.value).map(Phi::new);
        let found = &mut self.findings;
        match tag {
            Tag::SOP_CLASS => set_once(&mut found.sop_class, uid(), tag)?,
            Tag::SOP_INSTANCE => set_once(&mut found.sop_instance, instance(), tag)?,
            Tag::STUDY => found.study = found.study.take().or_else(instance),
            Tag::SERIES => found.series = found.series.take().or_else(instance),
            Tag::PATIENT_ID => found.patient_id = found.patient_id.take().or_else(text),
            Tag::PATIENT_ID_ISSUER => found.patient_id_issuer = found.patient_id_issuer.take().or_else(text),
            Tag::ACCESSION => found.accession = found.accession.take().or_else(text),
            Tag::MODALITY => found.modality = found.modality.take().or_else(|| code_string(&self.value)),
            _ => {}
        }
        Ok(())
    }
}

/// Receivers disagree on which of two equal tags counts, so one data set would have two identities.
fn set_once<T: PartialEq>(slot: &mut Option<T>, value: Option<T>, tag: Tag) -> Result<(), WalkError> {
    if slot.is_some() && *slot != value {
        return Err(WalkError::Ambiguous { tag });
    }
    *slot = value;
    Ok(())
}

fn text(value: &[u8]) -> Option<String> {
    let text = match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => value.iter().copied().map(char::from).collect(),
    };
    let trimmed = text.trim_matches([' ', '\0']);
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

/// Only what a code string may hold, so that a log line may show it (PS3.5 §6.2: 16 of `A-Z 0-9 _` and space).
fn code_string(value: &[u8]) -> Option<String> {
    let text = text(value)?;
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b' ' | b'_');
    (text.len() <= 16 && text.bytes().all(allowed)).then_some(text)
}
