//! Custody across the whole path: gateway-out, relay and gateway-in in one process, with a PACS that
//! sends and destinations that behave as badly as real ones.

#[cfg(test)]
mod common;

#[cfg(test)]
mod destination_answers;
#[cfg(test)]
mod fail_over;
#[cfg(test)]
mod folders;
#[cfg(test)]
mod hostile_envelopes;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod order;
#[cfg(test)]
mod patient_data;
#[cfg(test)]
mod relay_log;
#[cfg(test)]
mod repeats;
#[cfg(test)]
mod respond_delivered;
#[cfg(test)]
mod restarts;
