//! What is taken away goes with the instance, encrypted, and comes back for the holder of the key.

use std::sync::Arc;

use base::Uid;
use dataset::Tag;
use pseudonym::{
    Plan, Profile, Reidentified, Reidentifier, ReidentifyError, Restorer, WordList,
    enveloped::{self, CertificateError, OpenError, Recipient},
};

use crate::common::{EXPLICIT, Element, IMPLICIT, contains, ct, el, encode, run, sq};

const CERTIFICATE: &[u8] = include_bytes!("../certificates/test-only.cert.pem");
const KEY: &[u8] = include_bytes!("../certificates/test-only.key.pem");

fn plan(recipients: usize) -> Arc<Plan> {
    let plan = Plan::new(Profile::default(), WordList::default(), "").unwrap();
    let recipient = || Recipient::from_pem(CERTIFICATE).unwrap();
    Arc::new(plan.with_recipients((0..recipients).map(|_| recipient()).collect()))
}

fn patient() -> Vec<Element> {
    ct(vec![
        el((0x0008, 0x0005), b"CS", "ISO_IR 100"),
        el((0x0008, 0x0020), b"DA", "20240131"),
        el((0x0008, 0x0050), b"SH", "ACC-991"),
        el((0x0008, 0x0090), b"PN", "Verwijzer^A"),
        el((0x0010, 0x0010), b"PN", b"M\xFCller^Jane"),
        el((0x0010, 0x0030), b"DA", "19601224"),
        el((0x0010, 0x1010), b"AS", "063Y"),
        el((0x0010, 0x4000), b"LT", "text ".repeat(2000)),
        sq((0x0400, 0x0500), vec![vec![el((0x0400, 0x0520), b"OB", [1, 2])]]),
    ])
}

fn reidentified(data: &[u8], syntax: &str, key: &[u8]) -> Result<Reidentified, ReidentifyError> {
    let mut finder = Reidentifier::new(&Uid::parse(syntax).unwrap())?;
    data.chunks(11).try_for_each(|piece| finder.feed(piece))?;
    finder.finish(key)
}

#[test]
fn the_holder_of_the_key_finds_the_patient_and_puts_everything_back() {
    for (syntax, is_explicit) in [(EXPLICIT, true), (IMPLICIT, false)] {
        let data = encode(&patient(), is_explicit);
        let (out, _) = run(&plan(1), &data, syntax, 9).unwrap();
        for needle in ["MRN-471199", "ller^Jane", "ACC-991", "19601224", "1.2.3.4.5", "Verwijzer"] {
            assert!(!contains(&out, needle.as_bytes()), "{needle}");
        }
        let found = reidentified(&out, syntax, KEY).unwrap();
        let text = |group, element| found.texts.get(&Tag(group, element)).map(String::as_str);
        assert_eq!(text(0x0010, 0x0010), Some("Müller^Jane"));
        assert_eq!(text(0x0010, 0x0020), Some("MRN-471199"));
        assert_eq!(text(0x0008, 0x0018), Some("1.2.3.4.5"));
        assert_eq!(text(0x0008, 0x0020), Some("20240131"));
        assert_eq!(text(0x0008, 0x0060), None, "what stays is not encrypted again");
        let mut restorer = Restorer::new(&Uid::parse(syntax).unwrap(), &found).unwrap();
        let mut back = Vec::new();
        out.chunks(13).for_each(|piece| restorer.feed(piece, &mut back).unwrap());
        restorer.finish(&mut back).unwrap();
        let mut want = patient();
        want.retain(|element| element.tag != Tag(0x0400, 0x0500));
        want.push(el((0x0012, 0x0062), b"CS", "NO"));
        assert_eq!(back, encode(&want, is_explicit), "all that was there, and nothing of ours");
    }
}

#[test]
fn nobody_gets_the_name_of_another() {
    let one = encode(&patient(), true);
    let other = encode(
        &ct(vec![el((0x0008, 0x0018), b"UI", "1.2.3.4.6"), el((0x0010, 0x0010), b"PN", "Other^P")]),
        true,
    );
    let plan = plan(1);
    let [one, other] = [one, other].map(|data| run(&plan, &data, EXPLICIT, 1 << 20).unwrap().0);
    // (0400,0500) is the last element before the pixels.
    let split = |data: &[u8]| {
        let position =
            |needle: &[u8]| data.windows(needle.len()).position(|window| window == needle).unwrap();
        let (from, to) = (position(b"\x00\x04\x00\x05SQ"), position(b"\xE0\x7F\x10\x00OW"));
        (data[..from].to_vec(), data[from..to].to_vec(), data[to..].to_vec())
    };
    let ((head, mine, tail), (_, theirs, _)) = (split(&one), split(&other));
    let with = |content: &[u8]| reidentified(&[&head, content, &tail].concat(), EXPLICIT, KEY);
    assert!(with(&mine).is_ok());
    assert!(matches!(with(&theirs), Err(ReidentifyError::Changed)), "of another instance");
    let mut refused = 0;
    for at in mine.len() - 400..mine.len() - 40 {
        let mut changed = mine.clone();
        changed[at] ^= 1;
        refused += usize::from(with(&changed).is_err());
    }
    assert_eq!(refused, 360, "a bit of it anywhere");
}

#[test]
fn each_recipient_can_open_it_and_nobody_else() {
    let (out, _) = run(&plan(2), &encode(&patient(), true), EXPLICIT, 1 << 20).unwrap();
    assert!(reidentified(&out, EXPLICIT, KEY).is_ok());
    let other = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let refused = |key: &[u8]| reidentified(&out, EXPLICIT, key).unwrap_err();
    assert!(matches!(refused(other), ReidentifyError::Open(OpenError::Key)));
    assert!(matches!(refused(CERTIFICATE), ReidentifyError::Open(OpenError::Key)));
    let (plain, _) = run(&plan(0), &encode(&ct(vec![]), true), EXPLICIT, 1 << 20).unwrap();
    assert!(matches!(reidentified(&plain, EXPLICIT, KEY), Err(ReidentifyError::Nothing)));
}

#[test]
fn what_was_changed_on_its_way_does_not_open_as_something_else() {
    let recipient = [Recipient::from_pem(CERTIFICATE).unwrap()];
    for length in [0, 1, 15, 16, 17, 4096] {
        let content = vec![0x5A; length];
        let sealed = enveloped::seal(&recipient, &content).unwrap();
        assert_eq!(enveloped::open(KEY, &sealed).unwrap().expose(), &content);
        assert_eq!(enveloped::open(KEY, &[&sealed[..], &[0]].concat()).unwrap().expose(), &content);
        assert_ne!(
            sealed,
            enveloped::seal(&recipient, &content).unwrap(),
            "another key and vector each time"
        );
        for end in (0..sealed.len()).step_by(7) {
            assert!(enveloped::open(KEY, &sealed[..end]).is_err(), "{length} {end}");
        }
    }
}

#[test]
fn only_certificates_that_protect_for_long_are_taken() {
    let error = |pem: &[u8]| Recipient::from_pem(pem).unwrap_err();
    assert_eq!(error(include_bytes!("../certificates/weak.cert.pem")), CertificateError::Weak(2048));
    assert_eq!(error(include_bytes!("../certificates/ec.cert.pem")), CertificateError::NotRsa);
    assert_eq!(error(KEY), CertificateError::Unreadable);
    let recipient = Recipient::from_pem(CERTIFICATE).unwrap();
    assert_eq!(recipient.subject(), "CN=Data access committee,O=Test only");
    assert!(recipient.ends_at() > 4_000_000_000);
    assert_ne!(plan(0).digest(), plan(1).digest(), "another recipient is another profile");
}
