//! `[groups]`: peers under one name.

use std::collections::BTreeMap;

use base::AeTitle;
use ipnet::IpNet;
use service::config::{ConfigError, Loaded};
use std::net::IpAddr;
use wildmatch::WildMatch;

use crate::config::{Config, LOOPBACK};

/// All groups by their names.
pub(super) struct Groups(BTreeMap<String, Group>);

#[derive(Default)]
struct Group {
    titles: Vec<WildMatch>,
    networks: Vec<IpNet>,
}

impl Groups {
    pub(super) fn check(loaded: &Loaded<Config>) -> Result<Self, ConfigError> {
        let mut groups = BTreeMap::new();
        for (name, members) in &loaded.config.groups {
            let mut group = Group::default();
            for (n, text) in members.iter().enumerate() {
                let error = |message: String| loaded.error(&format!("groups.{name}[{n}]"), message);
                match network(text) {
                    Some(network) => group.networks.push(network),
                    None if text.contains('/') => {
                        let message = format!(
                            "{text:?} is no network; write one as in \"10.1.0.0/16\" or \"10.1.0.7\""
                        );
                        return Err(error(message));
                    }
                    None => group.titles.push(title(text).map_err(error)?),
                }
            }
            groups.insert(name.to_string(), group);
        }
        Ok(Self(groups))
    }

    /// The titles of a group, which has some.
    pub(super) fn titles(&self, name: &str) -> Result<&[WildMatch], String> {
        match self.group(name)?.titles.as_slice() {
            [] => Err(format!("the group {name} has no AE title")),
            titles => Ok(titles),
        }
    }

    /// The networks of a group, which has some.
    pub(super) fn networks(&self, name: &str) -> Result<&[IpNet], String> {
        match self.group(name)?.networks.as_slice() {
            [] => Err(format!("the group {name} has no network and no address")),
            networks => Ok(networks),
        }
    }

    fn group(&self, name: &str) -> Result<&Group, String> {
        self.0.get(name).ok_or_else(|| {
            let names: Vec<_> = self.0.keys().map(String::as_str).collect();
            match names.as_slice() {
                [] => format!("no group is called {name}; [groups] has none"),
                names => format!("no group is called {name}; there are {}", names.join(", ")),
            }
        })
    }
}

/// A network, or one address.
pub(super) fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A calling AE title with wild cards: they stand for characters that a title may have, so the pattern is one, too.
pub(super) fn title(text: &str) -> Result<WildMatch, String> {
    AeTitle::parse(text).map(|title| WildMatch::new(title.as_str())).map_err(|error| error.to_string())
}

/// Who may call where nothing is said.
pub(super) fn loopback() -> Vec<IpNet> {
    LOOPBACK.iter().filter_map(|net| net.parse().ok()).collect()
}
