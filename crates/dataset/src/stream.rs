//! What stands around a change of a data set: compression on both sides, both digests, and errors that stay.

use base::{Digest, Hasher};
use flate2::{Compress, Compression, FlushCompress, Status};

use crate::inflate::{InflateError, Inflater};
use crate::syntax::Syntax;

/// Room that the deflater is given at once.
const DEFLATED_STEP_BYTES: usize = 32 * 1024;

/// A change of a data set that is not deflated, as a value.
pub(crate) trait Stage {
    type Error: From<InflateError> + Clone;

    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Self::Error>;
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Self::Error>;
}

/// A data set's bytes: how many, and their SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of them.
    pub digest: Digest,
}

struct Measure {
    bytes: u64,
    hasher: Hasher,
}

impl Measure {
    fn new() -> Self {
        Self { bytes: 0, hasher: Hasher::new(b"") }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hasher.update(bytes);
    }

    fn extent(&self) -> Extent {
        Extent { bytes: self.bytes, digest: self.hasher.clone().finish() }
    }
}

/// Inflates, pushes through a stage, deflates.
pub(crate) struct Pump<S: Stage> {
    pub(crate) stage: S,
    inflater: Option<Inflater>,
    deflater: Option<Deflater>,
    /// The bytes go on as they came and the stage only looks.
    identity: bool,
    plain: Vec<u8>,
    /// Digests take most of the time of whoever changes little.
    measures: bool,
    before: Measure,
    after: Measure,
    failed: Option<S::Error>,
}

impl<S: Stage> Pump<S> {
    pub(crate) fn new(stage: S, from: Syntax, to: Syntax, identity: bool) -> Self {
        Self {
            stage,
            inflater: from.deflated.then(Inflater::new),
            deflater: (to.deflated && !identity).then(Deflater::new),
            identity,
            plain: Vec::new(),
            measures: true,
            before: Measure::new(),
            after: Measure::new(),
            failed: None,
        }
    }

    /// Takes no digests: the extents are those of no bytes.
    pub(crate) fn unmeasured(self) -> Self {
        Self { measures: false, ..self }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), S::Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.measures {
            self.before.update(bytes);
        }
        let start = out.len();
        let result = if self.identity { self.look(bytes, out) } else { self.run(bytes, out) };
        self.settle(result, start, out)
    }

    /// Both extents.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(Extent, Extent), S::Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let start = out.len();
        let result = self.end(out);
        self.settle(result, start, out)?;
        Ok((self.before.extent(), self.after.extent()))
    }

    /// After an error nothing of this call is handed out.
    fn settle(
        &mut self,
        result: Result<(), S::Error>,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), S::Error> {
        match result {
            Ok(()) if self.measures => self.after.update(out.get(start..).unwrap_or_default()),
            Ok(()) => {}
            Err(error) => {
                out.truncate(start);
                self.failed = Some(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }

    fn look(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), S::Error> {
        let mut unused = std::mem::take(&mut self.plain);
        let result = self.run(bytes, &mut unused);
        unused.clear();
        self.plain = unused;
        out.extend_from_slice(bytes);
        result
    }

    fn run(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), S::Error> {
        if self.inflater.is_none() && self.deflater.is_none() {
            return self.stage.push(bytes, out);
        }
        loop {
            let piece = match &mut self.inflater {
                Some(inflater) => inflater.next(&mut bytes)?,
                None => std::mem::take(&mut bytes),
            };
            if piece.is_empty() && bytes.is_empty() {
                return Ok(());
            }
            match &mut self.deflater {
                Some(deflater) => {
                    self.plain.clear();
                    self.stage.push(piece, &mut self.plain)?;
                    deflater.write(&self.plain, out, FlushCompress::None)?;
                }
                // An identity's output goes nowhere; it must not grow with what was inflated.
                None if self.identity => {
                    out.clear();
                    self.stage.push(piece, out)?;
                }
                None => self.stage.push(piece, out)?,
            }
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), S::Error> {
        if let Some(inflater) = &self.inflater {
            inflater.finish()?;
        }
        self.plain.clear();
        match &mut self.deflater {
            Some(deflater) => {
                self.stage.finish(&mut self.plain)?;
                deflater.write(&self.plain, out, FlushCompress::Finish)?;
                // PS3.5 A.5: an odd stream is padded with one zero byte.
                if deflater.state.total_out() % 2 == 1 {
                    out.push(0);
                }
                Ok(())
            }
            None if self.identity => self.stage.finish(&mut self.plain),
            None => self.stage.finish(out),
        }
    }
}

struct Deflater {
    state: Box<Compress>,
}

impl Deflater {
    fn new() -> Self {
        Self { state: Box::new(Compress::new(Compression::default(), false)) }
    }

    fn write(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        flush: FlushCompress,
    ) -> Result<(), InflateError> {
        loop {
            let (before_in, start) = (self.state.total_in(), out.len());
            out.reserve(DEFLATED_STEP_BYTES);
            let status = self
                .state
                .compress_vec(input, out, flush)
                .map_err(|_| InflateError::Corrupt { offset: before_in })?;
            let taken = usize::try_from(self.state.total_in() - before_in).unwrap_or(usize::MAX);
            input = input.get(taken..).unwrap_or_default();
            let idle = taken == 0 && out.len() == start;
            let done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                // Room was left, so that nothing waits.
                _ => input.is_empty() && out.len() < out.capacity(),
            };
            if done {
                return Ok(());
            }
            if idle {
                let ended = !matches!(flush, FlushCompress::Finish);
                return if ended { Ok(()) } else { Err(InflateError::Corrupt { offset: before_in }) };
            }
        }
    }
}
