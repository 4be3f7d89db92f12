//! A day as bars: one series upwards, a second one downwards. Inline SVG, and the same by the hour as a table for whoever does not
//! see it.

use base::Timestamp;
use maud::{Markup, html};

use super::words;
use crate::throughput::{Day, SLOTS, Slot};

/// What is counted, and how much of it passed.
#[derive(Debug)]
pub struct Series {
    /// In words, as in `taken in`.
    pub label: &'static str,
    /// The last day.
    pub day: Day,
}

/// Units of a bar with its gap, of the bar alone, and of the tallest bar.
const STEP: usize = 6;
const BAR: usize = 5;
const HEIGHT: u64 = 60;
/// Slots of an hour.
const HOUR: usize = 6;

/// The section. `started_at` is when counting began.
pub(super) fn section(series: &[Series], started_at: Timestamp) -> Markup {
    let peak = series.iter().flat_map(|one| one.day.slots()).map(|slot| slot.instances).max().unwrap_or(0);
    let unknown = series.iter().map(|one| one.day.unknown(started_at)).min().unwrap_or(0);
    html! {
        section.chart aria-labelledby="last-day" {
            h2 id="last-day" { "Last 24 hours" }
            p.legend {
                @for (place, one) in series.iter().enumerate() {
                    span { span class=(format!("key key-{place}")) aria-hidden="true" {} (total(one)) }
                }
                @if peak > 0 { span.note { "tallest bar: " (words::count(peak)) " in 10 minutes" } }
            }
            (drawing(series, peak, unknown))
            div.axis aria-hidden="true" {
                @for label in ["−24 h", "−18 h", "−12 h", "−6 h", "now"] { span { (label) } }
            }
            @if unknown > 0 { p.note { "Shaded: before this process started. Counts are kept in memory only." } }
            (by_hour(series))
        }
    }
}

fn total(series: &Series) -> String {
    let Slot { instances, bytes } = series.day.total();
    format!("{}: {} ({})", series.label, words::count(instances), words::bytes(bytes))
}

fn drawing(series: &[Series], peak: u64, unknown: usize) -> Markup {
    let (width, both) = (SLOTS * STEP, series.len() > 1);
    let height = if both { 2 * HEIGHT + 2 } else { HEIGHT + 1 };
    let said = series.iter().map(total).collect::<Vec<_>>().join("; ");
    html! {
        svg role="img" aria-label=(format!("Instances by 10 minutes in the last 24 hours. {said}"))
            viewBox=(format!("0 0 {width} {height}")) preserveAspectRatio="none" class=[both.then_some("both")] {
            @if unknown > 0 { rect.unknown x="0" y="0" width=(unknown * STEP) height=(height) {} }
            @for hour in [36, 72, 108] {
                line.grid x1=(hour * STEP) x2=(hour * STEP) y1="0" y2=(height) {}
            }
            line.base x1="0" x2=(width) y1=(HEIGHT) y2=(HEIGHT) {}
            @for (place, one) in series.iter().take(2).enumerate() {
                @for (slot, passed) in one.day.slots().iter().enumerate() {
                    @if let Some(tall) = tall(passed.instances, peak) {
                        rect class=(format!("bar-{place}")) x=(slot * STEP) width=(BAR) height=(tall)
                            y=(if place == 0 { HEIGHT.saturating_sub(tall) } else { HEIGHT + 1 }) {}
                    }
                }
            }
        }
    }
}

/// One that is not empty is seen, however small it is.
fn tall(instances: u64, peak: u64) -> Option<u64> {
    let tall = u128::from(instances) * u128::from(HEIGHT) / u128::from(peak.max(1));
    (instances > 0).then(|| u64::try_from(tall).unwrap_or(HEIGHT).clamp(2, HEIGHT))
}

/// Hours in which something passed, the latest first.
fn by_hour(series: &[Series]) -> Markup {
    let hours = series.iter().map(|one| sums(&one.day)).collect::<Vec<_>>();
    let of = |one: &[Slot], hour: usize| one.get(hour).copied().unwrap_or_default();
    let busy = |hour: &usize| hours.iter().any(|one| of(one, *hour).instances > 0);
    let shown = (0..SLOTS / HOUR).rev().filter(busy).collect::<Vec<_>>();
    html! {
        @if !shown.is_empty() {
            details {
                summary { "The same by the hour" }
                table role="table" {
                    caption { "Instances and bytes by the hour; hours in which nothing passed are left out." }
                    thead { tr {
                        th scope="col" { "Hours ago" }
                        @for one in series { th.number scope="col" { (one.label) } th.number scope="col" { "bytes" } }
                    } }
                    tbody { @for hour in shown { tr {
                        th scope="row" { (SLOTS / HOUR - 1 - hour) " to " (SLOTS / HOUR - hour) }
                        @for one in &hours {
                            td.number { (words::count(of(one, hour).instances)) }
                            td.number { (words::bytes(of(one, hour).bytes)) }
                        }
                    } } }
                }
            }
        }
    }
}

fn sums(day: &Day) -> Vec<Slot> {
    let add = |sum: Slot, slot: &Slot| Slot {
        instances: sum.instances.saturating_add(slot.instances),
        bytes: sum.bytes.saturating_add(slot.bytes),
    };
    day.slots().chunks(HOUR).map(|hour| hour.iter().fold(Slot::default(), add)).collect()
}
