//! What a revocation needs of a configuration that cannot be used as a whole: a file that is wrong elsewhere must not keep a
//! gateway in.

use std::path::Path;

use base::{Fingerprint, Name};
use serde::Deserialize;
use serde_json::Value;
use service::config::{ENVIRONMENT_PREFIX, fragments_dir, peek};

use crate::config::RevokedTable;

/// Tables as far as they can be read, each by itself.
#[derive(Debug, Default, Deserialize)]
struct Tables {
    #[serde(default)]
    tenant: Vec<Value>,
    #[serde(default)]
    revoked: Vec<Value>,
}

/// Of the files that can be read. Where the main file cannot, the others are read each by itself.
fn tables(config: &Path) -> Tables {
    if let Ok(tables) = peek(config, ENVIRONMENT_PREFIX) {
        return tables;
    }
    let entries = std::fs::read_dir(fragments_dir(config)).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).filter(|path| is_fragment(path)).collect();
    paths.sort();
    let mut tables = Tables::default();
    for part in paths.iter().filter_map(|path| peek::<Tables>(path, ENVIRONMENT_PREFIX).ok()) {
        tables.tenant.extend(part.tenant);
        tables.revoked.extend(part.revoked);
    }
    tables
}

/// Not a draft.
fn is_fragment(path: &Path) -> bool {
    let visible = path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."));
    visible && path.extension().is_some_and(|extension| extension == "toml")
}

/// All revocations that can be read.
pub(crate) fn revocations(config: &Path) -> Vec<RevokedTable> {
    tables(config).revoked.into_iter().filter_map(|table| serde_json::from_value(table).ok()).collect()
}

/// A tenant as a revocation names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Known {
    /// As its table is called.
    pub(crate) name: Name,
    /// What names it, whichever keys it uses.
    pub(crate) id: Fingerprint,
    /// Of the identity on its card: what its people read out.
    pub(crate) fingerprint: Fingerprint,
}

/// The tenants whose card can be read, by name.
pub(crate) fn tenants(config: &Path) -> Vec<Known> {
    let dir = std::path::absolute(config).ok().and_then(|path| path.parent().map(Path::to_owned));
    let identity = |table: Value| {
        let name = Name::parse(table.get("name")?.as_str()?).ok()?;
        let path = dir.as_ref()?.join(table.get("card")?.as_str()?);
        let card = identity::PeerCard::parse(std::fs::read_to_string(path).ok()?.trim()).ok()?;
        let (id, fingerprint) = (card.id(), card.identity.fingerprint());
        (card.name == name).then_some(Known { name, id, fingerprint })
    };
    tables(config).tenant.into_iter().filter_map(identity).collect()
}

#[cfg(test)]
mod tests {
    use base::Secret;
    use identity::{CardFields, IdentityKey};

    use super::*;

    #[test]
    fn what_can_be_read_is_read_whatever_else_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("relay.toml");
        let fragments = dir.path().join("conf.d/relay");
        std::fs::create_dir_all(&fragments).unwrap();
        let key = IdentityKey::generate(Name::parse("good").unwrap(), &Secret::random());
        std::fs::write(dir.path().join("good.card"), key.card(CardFields::new(1, &[])).to_line()).unwrap();
        std::fs::write(dir.path().join("bad.card"), "nonsense").unwrap();
        let text = "[quic]\nlisten = \"nonsense\"\n[[tenant]]\nname = \"bad\"\ncard = \"bad.card\"\n[[tenant]]\nname = 3\n\
                    [[tenant]]\nname = \"good\"\ncard = \"good.card\"\nbudget = \"much\"\n[[revoked]]\nname = \"x\"\n";
        std::fs::write(&config, text).unwrap();
        std::fs::write(fragments.join("a.toml"), "[nonsense\n").unwrap();
        let fingerprint = Fingerprint([7; 32]);
        let revoked = format!("[[revoked]]\nname = \"good\"\nfingerprint = \"{fingerprint}\"\n");
        std::fs::write(fragments.join("b.toml"), revoked).unwrap();
        let known = tenants(&config);
        assert_eq!(known.len(), 1);
        assert_eq!((known[0].name.as_str(), known[0].id), ("good", key.fingerprint()));
        let found: Vec<_> = revocations(&config).into_iter().map(|table| table.fingerprint).collect();
        assert_eq!(found, [fingerprint]);
        std::fs::write(&config, "[nonsense").unwrap();
        assert!(tenants(&config).is_empty(), "they stood in that file");
        assert_eq!(revocations(&config).len(), 1, "nobody stays in for that");
    }
}
