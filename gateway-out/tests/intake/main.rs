//! The DICOM port of gateway-out: who may associate, what is answered when there is no room, and what
//! is owed without any relay.

#[cfg(test)]
mod bed;

#[cfg(test)]
mod who_may_associate;

#[cfg(test)]
mod without_room;

#[cfg(test)]
mod stopping;
