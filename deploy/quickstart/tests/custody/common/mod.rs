//! The bed that the tests lie in.

mod bed;
mod envoy;
mod pacs;

use std::time::Duration;

use base::{AeTitle, InstanceMeta, Name, Phi, Priority, Uid};
use fixtures::{CtSeries, Subject, TransferSyntax};

pub(crate) use bed::{Bed, IN, MALLORY, OTHER, OUT, Plan, RouteSpec, dicom, folder, route_id};
pub(crate) use envoy::{Envoy, Letter, header as envoy_header, seal};
pub(crate) use pacs::{Act, Pacs, send};

/// Longer than any step takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that must become true.
pub(crate) async fn until<C>(what: &str, condition: C)
where
    C: AsyncFnMut() -> bool,
{
    assert!(testkit::eventually(PATIENCE, condition).await, "{what}: not within {PATIENCE:?}");
}

/// Waits for something that must come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

pub(crate) fn ae(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

/// An instance as a PACS sends it.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) meta: InstanceMeta,
    pub(crate) data: Vec<u8>,
}

impl Sample {
    pub(crate) fn uid(&self) -> String {
        self.meta.sop_instance.reveal().as_str().to_owned()
    }

    /// The same instance with another value somewhere behind its identifiers.
    pub(crate) fn changed(&self) -> Self {
        let mut changed = self.clone();
        *changed.data.last_mut().unwrap() ^= 1;
        changed
    }

    pub(crate) fn to(mut self, calling: &str, called: &str) -> Self {
        (self.meta.calling, self.meta.called) = (ae(calling), ae(called));
        self
    }
}

/// Slices of one study; a side of 64 gives 9 KB, 512 gives 525 KB, 1024 gives 2 MiB.
pub(crate) fn slices(seed: u64, count: u32, side: u16) -> Vec<Sample> {
    slices_of(Subject::new(seed), count, side)
}

pub(crate) fn slices_of(subject: Subject, count: u32, side: u16) -> Vec<Sample> {
    let series = CtSeries { subject, slices: count, side };
    (0..count).map(|slice| sample(&series.slice(slice), &TransferSyntax::ExplicitLittle)).collect()
}

pub(crate) fn slice(seed: u64, side: u16) -> Sample {
    slices(seed, 1, side).remove(0)
}

pub(crate) fn sample(instance: &fixtures::Instance, syntax: &TransferSyntax) -> Sample {
    Sample {
        meta: InstanceMeta {
            sop_class: instance.sop_class.clone(),
            sop_instance: Phi::new(instance.sop_instance.clone()),
            transfer_syntax: syntax.uid(),
            calling: ae("MODALITY"),
            called: ae("GW"),
            move_originator: None,
            priority: Priority::Medium,
        },
        data: instance.data_set(syntax).unwrap(),
    }
}
