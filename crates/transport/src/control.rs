use minicbor::{Decode, Encode};
use quinn::{RecvStream, SendStream};
use thiserror::Error;
use tokio::sync::mpsc;
use wire::{FrameDecoder, FrameError, encode_frame};

/// Bytes read at once from a control stream.
const READ_BYTES: usize = 16 * 1024;
/// Frames written at once.
const BATCH_FRAMES: usize = 64;

/// Why a control stream ended.
#[derive(Debug, Error)]
pub(crate) enum ControlError {
    /// The peer broke the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The connection is gone, or the peer ended the stream.
    #[error("control stream closed")]
    Closed,
}

/// Reads frames of one kind.
pub(crate) struct ControlReader<T> {
    stream: RecvStream,
    decoder: FrameDecoder<T>,
}

impl<T> ControlReader<T> {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, decoder: FrameDecoder::default() }
    }

    /// Goes on reading frames of another kind.
    pub(crate) fn into_kind<U>(self) -> ControlReader<U> {
        ControlReader { stream: self.stream, decoder: self.decoder.into_kind() }
    }
}

impl<T: Encode<()> + for<'b> Decode<'b, ()>> ControlReader<T> {
    /// The next frame. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<T, ControlError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            match self.stream.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => self.decoder.feed(&chunk.bytes),
                Ok(None) => {
                    self.decoder.finish()?;
                    return Err(ControlError::Closed);
                }
                Err(_) => return Err(ControlError::Closed),
            }
        }
    }
}

/// Writes one frame.
pub(crate) async fn write_frame<T: Encode<()>>(
    stream: &mut SendStream,
    frame: &T,
) -> Result<(), ControlError> {
    let mut bytes = Vec::new();
    encode_frame(frame, &mut bytes)?;
    stream.write_all(&bytes).await.map_err(|_| ControlError::Closed)
}

/// Writes the frames of a queue, several at once, until all its senders are gone.
pub(crate) async fn write_queue<T: Encode<()>>(
    mut stream: SendStream,
    mut queue: mpsc::Receiver<T>,
) -> Result<(), ControlError> {
    // Control frames pass before body bytes that wait in the same connection.
    let _ = stream.set_priority(1);
    let mut batch = Vec::with_capacity(BATCH_FRAMES);
    let mut bytes = Vec::new();
    while queue.recv_many(&mut batch, BATCH_FRAMES).await > 0 {
        bytes.clear();
        for frame in batch.drain(..) {
            encode_frame(&frame, &mut bytes)?;
        }
        stream.write_all(&bytes).await.map_err(|_| ControlError::Closed)?;
    }
    Ok(())
}
