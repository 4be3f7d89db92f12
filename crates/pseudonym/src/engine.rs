use std::sync::Arc;

use base::Uid;
use dataset::{RewriteError, Rewriter};

use crate::key::{PatientKey, Pseudonyms};
use crate::pass::{self, Pass, PixelWork};
use crate::plan::Plan;
use crate::recode::{NATIVE, Recode};
use crate::refusal::Refusal;
use crate::report::Pseudonymized;
use crate::scan::{Facts, Scan};
use crate::scope;

/// Bytes before the pixel data, as they came, that are held and looked at as a whole.
pub const HEADER_BYTES_MAX: usize = 32 << 20;

/// Pseudonymizes one instance as it passes.
///
/// Nothing comes out before the whole header has been looked at twice: once to learn who the patient is and what must not be left
/// of one, once to act on each element and to search what goes on. Pixels stream by after that, in constant memory. After a
/// refusal nothing that came out before may become a whole instance.
pub struct Pseudonymizer {
    plan: Arc<Plan>,
    /// Without one it waits for [`Pseudonymizer::use_key`] once it knows the study.
    pseudonyms: Option<Arc<Pseudonyms>>,
    transfer_syntax: Uid,
    stage: Stage,
}

enum Stage {
    /// The header comes in.
    Looking {
        scan: Box<Rewriter<Scan>>,
        held: Vec<u8>,
        unused: Vec<u8>,
    },
    /// It is known; the key is not.
    Looked {
        facts: Box<Facts>,
        patient: PatientKey,
        pixels: Box<PixelWork>,
        about: About,
        held: Vec<u8>,
    },
    /// It is acted on; what comes out waits for its end.
    Acting {
        pass: Box<Rewriter<Pass>>,
        about: About,
        sop_instance: Uid,
        waiting: Vec<u8>,
    },
    Refused(Refusal),
}

/// Of an instance, what is told at its end.
struct About {
    sop_class: String,
    sop_instance: String,
    study: base::Phi<String>,
}

impl Pseudonymizer {
    /// For a data set in this transfer syntax.
    pub fn new(plan: Arc<Plan>, pseudonyms: Arc<Pseudonyms>, transfer_syntax: &Uid) -> Result<Self, Refusal> {
        let undecided = Self::undecided(plan, transfer_syntax)?;
        Ok(Self { pseudonyms: Some(pseudonyms), ..undecided })
    }

    /// Which key is used is decided once its study is known: give bytes until [`Pseudonymizer::study`] has it, then the key.
    pub fn undecided(plan: Arc<Plan>, transfer_syntax: &Uid) -> Result<Self, Refusal> {
        let scan = Rewriter::unmeasured(transfer_syntax, Scan::new(Arc::clone(&plan)))
            .ok_or(Refusal::TransferSyntax)?;
        Ok(Self {
            plan,
            pseudonyms: None,
            transfer_syntax: transfer_syntax.clone(),
            stage: Stage::Looking { scan: Box::new(scan), held: Vec::new(), unused: Vec::new() },
        })
    }

    /// The Study Instance UID that it came with, empty where it has none, as long as it waits for a key.
    pub fn study(&self) -> Option<&base::Phi<String>> {
        match &self.stage {
            Stage::Looked { about, .. } => Some(&about.study),
            _ => None,
        }
    }

    /// Acts under this key, and appends to `out` what may go on.
    pub fn use_key(&mut self, pseudonyms: Arc<Pseudonyms>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        self.pseudonyms = Some(pseudonyms);
        let result = self.act();
        self.settle(result)?;
        self.release(out);
        Ok(())
    }

    /// The data set is over. Only needed where the key is not known yet.
    pub fn end(&mut self) -> Result<(), Refusal> {
        let result = match &self.stage {
            Stage::Looking { .. } => self.look(true),
            _ => Ok(()),
        };
        self.settle(result)
    }

    /// Its new SOP Instance UID, once its header has been looked at and the key is known.
    pub fn sop_instance(&self) -> Option<&Uid> {
        match &self.stage {
            Stage::Acting { sop_instance, .. } => Some(sop_instance),
            _ => None,
        }
    }

    /// The transfer syntax that the data set goes on in, once its header has been looked at: Explicit VR Little Endian where
    /// compressed pixels are masked, otherwise the one that it came in.
    pub fn transfer_syntax(&self) -> Option<Uid> {
        match &self.stage {
            Stage::Acting { pass, .. } if pass.edit().recode.is_some() => Uid::parse(NATIVE).ok(),
            Stage::Acting { .. } => Some(self.transfer_syntax.clone()),
            _ => None,
        }
    }

    /// Whether its pixels are decoded on their way, which takes time.
    pub fn decodes(&self) -> bool {
        match &self.stage {
            Stage::Looked { pixels, .. } => pixels.recode.is_some(),
            Stage::Acting { pass, .. } => pass.edit().recode.is_some(),
            _ => false,
        }
    }

    /// Whether everything before the pixels has passed: nothing of the patient is left in it.
    pub fn header_has_passed(&self) -> bool {
        matches!(&self.stage, Stage::Acting { pass, .. } if pass.edit().header_has_passed())
    }

    /// Takes the next bytes and appends to `out` what may go on. After a refusal each call gives it again.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let result = self.step(bytes, out);
        self.settle(result)
    }

    /// Ends the data set and appends the rest to `out`.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<Pseudonymized, Refusal> {
        if let Stage::Looking { .. } = &self.stage {
            let result = self.look(true).and_then(|()| self.act());
            self.settle(result)?;
        }
        match self.stage {
            Stage::Refused(refusal) => Err(refusal),
            Stage::Looking { .. } => Err(RewriteError::Empty.into()),
            Stage::Looked { .. } => Err(Refusal::NoKey),
            Stage::Acting { pass, about, sop_instance, mut waiting } => {
                let edit = pass.finish_edit(&mut waiting)?;
                out.append(&mut waiting);
                Ok(Pseudonymized {
                    report: edit.report,
                    sop_class: about.sop_class,
                    sop_instance,
                    sop_instance_before: base::Phi::new(about.sop_instance),
                    study_before: about.study,
                })
            }
        }
    }

    fn settle(&mut self, result: Result<(), Refusal>) -> Result<(), Refusal> {
        if let Err(refusal) = &result {
            self.stage = Stage::Refused(refusal.clone());
        }
        result
    }

    fn step(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        match &mut self.stage {
            Stage::Refused(refusal) => return Err(refusal.clone()),
            Stage::Looking { scan, held, unused } => {
                held.extend_from_slice(bytes);
                scan.feed(bytes, unused)?;
                unused.clear();
                if !scan.edit().has_ended() {
                    return match held.len() {
                        len if len > HEADER_BYTES_MAX => {
                            Err(Refusal::HeaderTooLong { max: HEADER_BYTES_MAX })
                        }
                        _ => Ok(()),
                    };
                }
                self.look(false)?;
                if self.pseudonyms.is_some() {
                    self.act()?;
                }
            }
            Stage::Looked { held, .. } => held.extend_from_slice(bytes),
            Stage::Acting { pass, waiting, .. } => {
                let fed = pass.feed(bytes, waiting);
                fed.map_err(|error| refused(pass, error))?;
            }
        }
        self.release(out);
        Ok(())
    }

    /// Ends the first look.
    fn look(&mut self, at_end: bool) -> Result<(), Refusal> {
        let waiting = Stage::Refused(Refusal::NoInstance);
        let Stage::Looking { scan, held, mut unused } = std::mem::replace(&mut self.stage, waiting) else {
            return Ok(());
        };
        let scan = match at_end {
            true => scan.finish_edit(&mut unused)?,
            // The pixels are its last thing to see: there is no end yet.
            false => scan.into_edit(),
        };
        let mut facts = scan.facts();
        // What is compressed is masked as it will be.
        let recode = Recode::new(&self.transfer_syntax, &facts.kind.layout);
        if let Some(recode) = &recode {
            facts.kind.layout = recode.goes.clone();
        }
        let about = About {
            sop_class: facts.kind.sop_class.clone(),
            sop_instance: facts.sop_instance.reveal().clone(),
            study: facts.study.clone(),
        };
        if Uid::parse(&about.sop_class).is_err() || about.sop_instance.is_empty() {
            return Err(Refusal::NoInstance);
        }
        let native = is_native(&self.transfer_syntax) || recode.is_some();
        let mask = scope::admit(&facts.kind, &self.plan, native)?;
        let patient = self.plan.profile.patient.patient(facts.issuer.reveal(), facts.patient_id.reveal())?;
        if recode.is_some() && mask.is_some() && recode.as_ref().and_then(Recode::bytes).is_none() {
            return Err(Refusal::Pixels("they cannot be masked: they are too large to be decoded"));
        }
        let recode = recode.filter(|_| mask.is_some());
        let pixels = Box::new(PixelWork { mask, recode });
        self.stage = Stage::Looked { facts: Box::new(facts), patient, pixels, about, held };
        Ok(())
    }

    /// Begins the second one.
    fn act(&mut self) -> Result<(), Refusal> {
        let Some(pseudonyms) = self.pseudonyms.clone() else { return Err(Refusal::NoKey) };
        let waiting = Stage::Refused(Refusal::NoInstance);
        let Stage::Looked { facts, patient, pixels, about, held } =
            std::mem::replace(&mut self.stage, waiting)
        else {
            return Err(Refusal::NoKey);
        };
        let sop_instance = match self.plan.options.has(crate::ProfileOption::RetainUids) {
            true => Uid::parse(&about.sop_instance).map_err(|_| Refusal::NoInstance)?,
            false => pseudonyms.uid(&about.sop_instance),
        };
        let pass = pass::after(&self.plan, &pseudonyms, *facts, (patient, &sop_instance), *pixels)?;
        let mut pass =
            Box::new(Rewriter::unmeasured(&self.transfer_syntax, pass).ok_or(Refusal::TransferSyntax)?);
        let mut waiting = Vec::new();
        let fed = pass.feed(&held, &mut waiting);
        fed.map_err(|error| refused(&pass, error))?;
        self.stage = Stage::Acting { pass, about, sop_instance, waiting };
        Ok(())
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        if let Stage::Acting { pass, waiting, .. } = &mut self.stage
            && pass.edit().header_has_passed()
        {
            out.append(waiting);
        }
    }
}

/// Whether pixels in this transfer syntax are what they are, and the data set is not deflated.
fn is_native(syntax: &Uid) -> bool {
    ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"].contains(&syntax.as_str())
}

/// The reason, where the rewriter knows only that there was one.
fn refused(pass: &Rewriter<Pass>, error: RewriteError) -> Refusal {
    match (pass.edit().found(), pass.edit().recode.as_ref().and_then(|recode| recode.fault)) {
        (Some((tag, trace)), _) => Refusal::Residual { tag, what: trace.what() },
        (None, Some(why)) => Refusal::Pixels(why),
        (None, None) => error.into(),
    }
}
