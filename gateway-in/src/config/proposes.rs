//! What an association proposes to a destination beside its presentation contexts: `user` and `async_operations`.

use std::{path::PathBuf, sync::Arc};

use base::Secret;
use dimse::{AsyncWindow, UserIdentity, UserIdentityKind};
use serde::{Deserialize, Serialize};
use service::{
    Live,
    config::{ConfigError, Loaded},
    files,
};

use super::{Config, DestinationTable};

/// `user` of a `[[destination]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserTable {
    /// User name. For HTTP it has no colon.
    pub name: String,
    /// The file of the passcode or password, in its first line. Default: the name alone, which `stow` does not do with.
    pub passcode: Option<PathBuf>,
}

/// User information of the A-ASSOCIATE-RQ.
#[derive(Debug, Clone)]
pub struct Proposes {
    /// User identity, as it was read last. No positive response is asked for: a destination that does not accept it rejects.
    pub user_identity: Live<Option<UserIdentity>>,
    /// Asynchronous operations.
    pub async_window: Option<AsyncWindow>,
}

/// Checks `user` and `async_operations` of one `[[destination]]`.
pub(super) fn check(
    loaded: &Loaded<Config>,
    i: usize,
    table: &DestinationTable,
) -> Result<Proposes, ConfigError> {
    let async_window = table.async_operations.map(|invoked| AsyncWindow { invoked, performed: 1 });
    let user_identity = Live::new(Arc::new(user_identity(loaded, i, table)?));
    Ok(Proposes { user_identity, async_window })
}

fn user_identity(
    loaded: &Loaded<Config>,
    i: usize,
    table: &DestinationTable,
) -> Result<Option<UserIdentity>, ConfigError> {
    let refuse = |key: &str, message: String| loaded.error(&format!("destination[{i}].{key}"), message);
    let Some(user) = &table.user else { return Ok(None) };
    if user.name.is_empty() {
        return Err(refuse(
            "user.name",
            "empty: nobody would be named; give a name, or leave `user` out".to_owned(),
        ));
    }
    let read = |file: &PathBuf| files::read_secret(&loaded.resolve(file));
    let passcode = user.passcode.as_ref().map(read).transpose();
    let passcode = passcode.map_err(|why| refuse("user.passcode", why.to_string()))?;
    let identity = UserIdentity {
        kind: if passcode.is_some() { UserIdentityKind::NameAndPasscode } else { UserIdentityKind::Name },
        positive_response_requested: false,
        primary: Secret::new(user.name.clone().into_bytes()),
        secondary: Secret::new(
            passcode.map_or_else(Vec::new, |passcode| passcode.expose().clone().into_bytes()),
        ),
    };
    Ok(Some(identity))
}
