//! The page around its sections.

use std::time::Duration;

use maud::{Markup, html};

use super::table::{chip, minute, section, time};
use super::{Overview, Standing, chart, sections, words};
use crate::html::document;

/// How often a browser asks again.
const REFRESH: Duration = Duration::from_secs(15);

pub(super) fn render(overview: &Overview) -> String {
    let (standing, role) = (overview.standing(), overview.role);
    let title = format!("{} – {role} {}", standing.word(), overview.name);
    let body = html! {
        header.masthead {
            div {
                h1 { (overview.name) " " span.role { (role) } }
                p.note {
                    "As of " time datetime=(crate::text::utc(overview.now)) { (minute(overview.now)) }
                    ", again every " (REFRESH.as_secs()) " s. Version " (overview.version) ", started "
                    (time(overview.started_at, overview.now))
                }
            }
            p.overall { span.visually-hidden { "State of this gateway: " } (chip(standing)) }
        }
        main {
            (alarms(overview))
            (figures(overview))
            (section(&sections::routes(overview)))
            (chart::section(&overview.series, overview.started_at))
            div.columns {
                @for table in &overview.tables { (section(table)) }
            }
            (section(&sections::relays(overview)))
            div.columns {
                (section(&sections::peers(overview)))
                (section(&sections::disks(overview)))
            }
            (section(&sections::configuration(overview)))
        }
        footer {
            p.note {
                "Fingerprint " code { (overview.fingerprint) } ". No patient data is on this page, and nothing on it changes \
                anything. For machines: " a href="/status" { "/status" } ", " a href="/metrics" { "/metrics" } "."
            }
        }
    };
    document(&title, Some(REFRESH), &body.into_string())
}

/// What somebody has to look at, in words.
fn alarms(overview: &Overview) -> Markup {
    let not_ready = overview.not_ready.iter().map(|why| format!("Not ready: {why}"));
    let reload = overview.reload_refused.iter().map(|why| format!("The last reload was refused: {why}"));
    let said: Vec<_> = not_ready.chain(reload).chain(overview.alarms.iter().cloned()).collect();
    html! {
        @if !said.is_empty() {
            section.alarms aria-labelledby="alarms" {
                h2 id="alarms" { span.sign aria-hidden="true" { "!" } "Alarms" }
                ul { @for line in &said { li { (line) } } }
            }
        }
    }
}

fn figures(overview: &Overview) -> Markup {
    let count =
        |standing| overview.routes.iter().filter(|route| route.verdict.standing == standing).count() as u64;
    let all = [Standing::Good, Standing::Waiting, Standing::HeldUp, Standing::Alarmed];
    let split: Vec<_> = all
        .into_iter()
        .filter(|one| count(*one) > 0)
        .map(|one| format!("{} {}", words::count(count(one)), one.word()))
        .collect();
    html! {
        section.figures aria-labelledby="figures" {
            h2.visually-hidden id="figures" { "Figures" }
            dl {
                div { dt { "Routes" } dd { (words::count(overview.routes.len() as u64)) } dd.note { (split.join(", ")) } }
                @for figure in &overview.figures {
                    div { dt { (figure.label) } dd { (figure.value) } dd.note { (figure.note) } }
                }
            }
        }
    }
}
