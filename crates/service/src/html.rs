//! The frame of the pages that people see on an admin port: one style sheet, no script, nothing loaded from anywhere. It reads in
//! the light and in the dark, wide and narrow.

use std::time::Duration;

use maud::{DOCTYPE, PreEscaped, html};

const STYLE: &str = include_str!("html/page.css");

/// A whole page around `body`, which is HTML already. With `refresh` the browser asks again by itself, without a script.
pub fn document(title: &str, refresh: Option<Duration>, body: &str) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(every) = refresh { meta http-equiv="refresh" content=(every.as_secs()); }
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (PreEscaped(body)) }
        }
    };
    page.into_string() + "\n"
}

/// A text as it may stand in an element or in a quoted attribute.
pub fn escaped(text: &str) -> String {
    html! { (text) }.into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_asks_again_only_where_it_is_told_to() {
        let page = document("a < b", Some(Duration::from_secs(15)), "<main></main>");
        assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\">"), "{page}");
        assert!(page.contains("<title>a &lt; b</title>"), "{page}");
        assert!(page.contains("<meta http-equiv=\"refresh\" content=\"15\">"), "{page}");
        assert!(!document("a", None, "").contains("http-equiv"));
    }

    #[test]
    fn nothing_gets_out_of_an_element_or_an_attribute() {
        assert_eq!(escaped("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
