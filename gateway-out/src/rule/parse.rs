//! The language of rules.
//!
//! ```text
//! any     = all { "or" all }
//! all     = one { "and" one }
//! one     = "not" one | "(" any ")" | "exists" attribute | attribute test
//! test    = ("==" | "!=") literal | "in" "[" literal { "," literal } "]" | "~" string
//! ```
//!
//! A string stands in `"` or `'` and has no escapes, so that a pattern is written as it is.

use std::fmt;

use dataset::Tag;
use regex::RegexBuilder;
use winnow::{
    ModalResult, Parser as _,
    ascii::multispace0,
    combinator::{alt, cut_err, delimited, fail, not, preceded, repeat, separated, terminated},
    error::{ContextError, ErrMode, FromExternalError as _, StrContext, StrContextValue},
    stream::Stream as _,
    token::{one_of, take_while},
};

use super::{Attribute, Expression, Leaf, Literal, RuleError, Test};

/// Bytes of one rule.
const LENGTH_MAX: usize = 4096;
/// Brackets and `not` within each other.
const DEPTH_MAX: usize = 32;
/// Memory of one compiled pattern. Matching is linear in the value, whatever the pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Of what stands at an error, that much is shown.
const NEAR_CHARACTERS: usize = 24;

/// What a word or a pattern is not, said by us rather than by the grammar.
#[derive(Debug)]
struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

/// Reads a whole expression.
pub(super) fn parse(text: &str) -> Result<Expression, RuleError> {
    if text.len() > LENGTH_MAX {
        let message = format!("the rule is longer than {LENGTH_MAX} bytes; use several routes");
        return Err(RuleError { at: 1, rest: String::new(), message });
    }
    let whole = |input: &mut &str| any(input, 0);
    terminated(whole, (multispace0, end)).parse(text).map_err(|error| {
        let at = error.offset().min(text.len());
        let (before, rest) = (text.get(..at).unwrap_or(text), text.get(at..).unwrap_or_default());
        let skipped = rest.len() - rest.trim_start().len();
        let spaces = rest.get(..skipped).unwrap_or_default().chars().count();
        RuleError {
            at: before.chars().count() + spaces + 1,
            rest: rest.trim().chars().take(NEAR_CHARACTERS).collect(),
            message: message(error.inner()),
        }
    })
}

fn message(error: &ContextError) -> String {
    if let Some(cause) = error.cause() {
        return cause.to_string();
    }
    let expected = error.context().find_map(|context| match context {
        StrContext::Expected(expected) => Some(expected.to_string()),
        _ => None,
    });
    format!("expected {}", expected.unwrap_or_else(|| "something else".to_owned()))
}

fn expected(what: &'static str) -> StrContext {
    StrContext::Expected(StrContextValue::Description(what))
}

fn wrong<T>(input: &&str, message: String) -> ModalResult<T> {
    Err(ErrMode::Cut(ContextError::from_external_error(input, Wrong(message))))
}

fn end(input: &mut &str) -> ModalResult<()> {
    if input.is_empty() {
        return Ok(());
    }
    fail.context(expected("`and`, `or` or the end")).parse_next(input)
}

fn word(input: &mut &str, word: &'static str) -> ModalResult<()> {
    let behind = not(one_of(|c: char| c.is_ascii_alphanumeric()));
    (multispace0, word, behind).void().parse_next(input)
}

fn sign(input: &mut &str, sign: &'static str) -> ModalResult<()> {
    (multispace0, sign).void().parse_next(input)
}

fn any(input: &mut &str, depth: usize) -> ModalResult<Expression> {
    let or = |input: &mut &str| word(input, "or");
    let first = all(input, depth)?;
    let more: Vec<_> =
        repeat(0.., preceded(or, cut_err(|input: &mut &str| all(input, depth)))).parse_next(input)?;
    Ok(joined(first, more, Expression::Any))
}

fn all(input: &mut &str, depth: usize) -> ModalResult<Expression> {
    let and = |input: &mut &str| word(input, "and");
    let first = one(input, depth)?;
    let more: Vec<_> =
        repeat(0.., preceded(and, cut_err(|input: &mut &str| one(input, depth)))).parse_next(input)?;
    Ok(joined(first, more, Expression::All))
}

fn joined(first: Expression, more: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
    if more.is_empty() { first } else { join(std::iter::once(first).chain(more).collect()) }
}

fn one(input: &mut &str, depth: usize) -> ModalResult<Expression> {
    multispace0.parse_next(input)?;
    if depth > DEPTH_MAX {
        return wrong(input, format!("more than {DEPTH_MAX} brackets and `not` within each other"));
    }
    let negated =
        preceded(|input: &mut &str| word(input, "not"), cut_err(|input: &mut &str| one(input, depth + 1)));
    let bracketed = delimited(
        |input: &mut &str| sign(input, "("),
        cut_err(|input: &mut &str| any(input, depth + 1)),
        cut_err((|input: &mut &str| sign(input, ")")).context(expected("`and`, `or` or `)`"))),
    );
    alt((negated.map(|inner| Expression::Not(Box::new(inner))), leaf.map(Expression::Leaf), bracketed))
        .context(expected("an attribute's keyword or (gggg,eeee), `exists`, `not` or `(`"))
        .parse_next(input)
}

fn leaf(input: &mut &str) -> ModalResult<Leaf> {
    let exists = preceded(|input: &mut &str| word(input, "exists"), cut_err(attribute))
        .map(|attribute| (attribute, Test::Exists));
    let ((attribute, test), text) =
        alt((exists, (attribute, cut_err(test)))).with_taken().parse_next(input)?;
    Ok(Leaf { text: text.trim().to_owned(), attribute, test })
}

fn attribute(input: &mut &str) -> ModalResult<Attribute> {
    multispace0.parse_next(input)?;
    let start = input.checkpoint();
    let found = alt((tag.map(Ok), keyword.map(Err)))
        .context(expected("an attribute's keyword or (gggg,eeee)"))
        .parse_next(input)?;
    let known = match found {
        Ok(tag) => of_tag(tag),
        Err(name) => of_keyword(name),
    };
    known.or_else(|message| {
        input.reset(&start);
        wrong(input, message)
    })
}

fn tag(input: &mut &str) -> ModalResult<Tag> {
    let number = |input: &mut &str| {
        take_while(4..=4, |c: char| c.is_ascii_hexdigit())
            .try_map(|digits: &str| u16::from_str_radix(digits, 16))
            .parse_next(input)
    };
    delimited('(', (terminated(number, ','), number), ')')
        .map(|(group, element)| Tag(group, element))
        .parse_next(input)
}

fn keyword<'a>(input: &mut &'a str) -> ModalResult<&'a str> {
    (one_of(|c: char| c.is_ascii_alphabetic()), take_while(0.., |c: char| c.is_ascii_alphanumeric()))
        .take()
        .parse_next(input)
}

fn of_keyword(name: &str) -> Result<Attribute, String> {
    match name {
        "Priority" => return Ok(Attribute::Priority),
        "TransferSyntaxUID" => return Ok(Attribute::TransferSyntax),
        _ => {}
    }
    match Tag::of_keyword(name) {
        Some(tag) => of_tag(tag),
        None => Err(match nearest(name) {
            Some(near) => format!("the standard has no attribute {name}; did you mean {near}?"),
            None => format!("the standard has no attribute {name}; write a private one as (gggg,eeee)"),
        }),
    }
}

fn of_tag(tag: Tag) -> Result<Attribute, String> {
    match tag {
        Tag(0x0000, 0x0700) => Ok(Attribute::Priority),
        Tag(0x0002, 0x0010) => Ok(Attribute::TransferSyntax),
        Tag::SOP_CLASS => Ok(Attribute::SopClass),
        Tag::SOP_INSTANCE => Ok(Attribute::SopInstance),
        Tag(0..=0x0007, _) => Err(format!("{tag} is no part of a data set")),
        tag if tag >= Tag::FLOAT_PIXEL_DATA => {
            Err(format!("{tag} is not before pixel data, where rules look"))
        }
        tag => Ok(Attribute::Element(tag)),
    }
}

/// The keyword that is most like this one, of the groups that rules are about.
fn nearest(name: &str) -> Option<&'static str> {
    let groups = [0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0028, 0x0032, 0x0038, 0x0040, 0x0054];
    let keywords =
        groups.into_iter().flat_map(|group| (0..0xA000).filter_map(move |n| Tag(group, n).keyword()));
    let distance = |keyword: &str| {
        strsim::damerau_levenshtein(&keyword.to_ascii_lowercase(), &name.to_ascii_lowercase())
    };
    let near = keywords.map(|keyword| (distance(keyword), keyword)).min()?;
    (near.0 <= name.len().div_ceil(3)).then_some(near.1)
}

fn test(input: &mut &str) -> ModalResult<Test> {
    let equal =
        preceded(|input: &mut &str| sign(input, "=="), cut_err(literal)).map(|one| Test::Is(vec![one]));
    let differs = preceded(|input: &mut &str| sign(input, "!="), cut_err(literal)).map(Test::IsNot);
    let list = delimited(
        (|input: &mut &str| sign(input, "[")).context(expected("`[`")),
        separated(1.., literal, |input: &mut &str| sign(input, ",")),
        (|input: &mut &str| sign(input, "]")).context(expected("`,` or `]`")),
    );
    let among = preceded(|input: &mut &str| word(input, "in"), cut_err(list)).map(Test::Is);
    let like = preceded(|input: &mut &str| sign(input, "~"), cut_err(pattern));
    alt((equal, differs, among, like)).context(expected("`==`, `!=`, `in` or `~`")).parse_next(input)
}

fn literal(input: &mut &str) -> ModalResult<Literal> {
    multispace0.parse_next(input)?;
    let start = input.checkpoint();
    let number = take_while(1.., |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E'))
        .try_map(str::parse::<f64>)
        .map(Literal::Number);
    let text = string.map(|text| Literal::Text(text.to_owned()));
    let found = alt((text, number)).context(expected("a text in quotes, or a number")).parse_next(input)?;
    match &found {
        Literal::Text(text) if text.is_empty() => {
            input.reset(&start);
            wrong(input, "an empty element has no value to compare; write `not exists …`".to_owned())
        }
        _ => Ok(found),
    }
}

fn string<'a>(input: &mut &'a str) -> ModalResult<&'a str> {
    multispace0.parse_next(input)?;
    let quote = one_of(['"', '\'']).context(expected("a text in quotes")).parse_next(input)?;
    terminated(
        take_while(0.., move |c| c != quote),
        cut_err(quote.context(expected("the quote that ends the text"))),
    )
    .parse_next(input)
}

fn pattern(input: &mut &str) -> ModalResult<Test> {
    multispace0.parse_next(input)?;
    let start = input.checkpoint();
    let text = string(input)?;
    match RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build() {
        Ok(regex) => Ok(Test::Matches(regex)),
        Err(error) => {
            input.reset(&start);
            // The library draws an arrow under the pattern, over several lines: the last one says what is wrong.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
            wrong(input, format!("not a regular expression: {last}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_where_and_what() {
        let deep = format!("{}exists Modality{}", "(".repeat(40), ")".repeat(40));
        let long = format!("Modality == \"{}\"", "x".repeat(LENGTH_MAX));
        let attribute = "expected an attribute's keyword or (gggg,eeee), `exists`, `not` or `(`";
        let cases = [
            ("", 1, attribute),
            ("Modality", 9, "expected `==`, `!=`, `in` or `~`"),
            ("Modality = \"CT\"", 10, "expected `==`, `!=`, `in` or `~`"),
            ("Modality == CT", 13, "expected a text in quotes, or a number"),
            ("Modality == \"CT", 16, "expected the quote that ends the text"),
            ("Modality == \"\"", 13, "an empty element has no value to compare; write `not exists …`"),
            ("Modality in \"CT\"", 13, "expected `[`"),
            ("Modality in [\"CT\" \"MR\"]", 19, "expected `,` or `]`"),
            ("Modality in []", 14, "expected a text in quotes, or a number"),
            ("Modality == \"CT\" && exists PatientID", 18, "expected `and`, `or` or the end"),
            ("Modality == \"CT\" and", 21, attribute),
            ("(exists Modality", 17, "expected `and`, `or` or `)`"),
            ("exists", 7, "expected an attribute's keyword or (gggg,eeee)"),
            ("Modalty == \"CT\"", 1, "the standard has no attribute Modalty; did you mean Modality?"),
            ("Ä == \"CT\"", 1, attribute),
            (
                "exists FooBarBazQux",
                8,
                "the standard has no attribute FooBarBazQux; write a private one as (gggg,eeee)",
            ),
            ("exists PixelData", 8, "(7FE0,0010) is not before pixel data, where rules look"),
            ("exists (0002,0016)", 8, "(0002,0016) is no part of a data set"),
            ("Modality ~ \"(CT\"", 12, "not a regular expression: unclosed group"),
            ("Modality == 1.2.3", 13, "invalid float literal"),
            (deep.as_str(), 34, "more than 32 brackets and `not` within each other"),
            (long.as_str(), 1, "the rule is longer than 4096 bytes; use several routes"),
        ];
        for (text, at, want) in cases {
            match parse(text) {
                Ok(found) => panic!("{text}: {found:?}"),
                Err(error) => assert_eq!((error.at, error.message.as_str()), (at, want), "{text}"),
            }
        }
        let error = parse("Modality == \"CT\" and Modalty == \"MR\"").unwrap_err();
        assert_eq!(
            error.to_string(),
            "at character 22, before `Modalty == \"MR\"`: the standard has no attribute Modalty; did you mean Modality?"
        );
        assert_eq!(
            parse("exists Modality and").unwrap_err().to_string(),
            format!("at character 20, the end: {attribute}")
        );
    }
}
