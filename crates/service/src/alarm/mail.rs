//! `[alarm.mail]`: a mail, by SMTP (RFC 5321) to the mail server of the house.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{SmtpTransport, Transport as _};
use serde::{Deserialize, Serialize};

use super::message::Message;
use crate::config::{ConfigError, Loaded};
use crate::{files, tls};

/// The whole conversation is many steps; each has this long.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// `[alarm.mail]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailTable {
    /// The mail server and its port, as in `"mail.hospital.example:587"`.
    pub server: String,
    /// `"starttls"` (default; refused where the server has none), `"tls"` from the first byte on (port 465), or `"none"`, for a server
    /// that asks for no password.
    #[serde(default)]
    pub security: Security,
    /// The sender, as in `"sluis@hospital.example"`.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
    /// The user that the server asks for. Default: none.
    pub user: Option<String>,
    /// The file with that user's password, readable for the daemon's user only.
    pub password: Option<PathBuf>,
    /// Authorities in PEM that the server's certificate is of. Default: those of the host.
    pub ca: Option<PathBuf>,
}

/// How the connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// RFC 3207; the connection is given up where it is not offered.
    #[default]
    Starttls,
    /// RFC 8314.
    Tls,
    /// Not at all.
    None,
}

impl MailTable {
    pub(super) fn check<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        if self.place().is_none() {
            return Err(loaded.error(
                "alarm.mail.server",
                "give a name or address and a port, as in \"mail.hospital.example:587\"",
            ));
        }
        if let Err(error) = self.from.parse::<Mailbox>() {
            return Err(loaded.error(
                "alarm.mail.from",
                format!("not a mail address, as \"sluis@hospital.example\" is: {error}"),
            ));
        }
        if self.to.is_empty() {
            return Err(loaded.error("alarm.mail.to", "give at least one mail address"));
        }
        for (number, to) in self.to.iter().enumerate() {
            if let Err(error) = to.parse::<Mailbox>() {
                return Err(loaded.error(
                    &format!("alarm.mail.to[{number}]"),
                    format!("not a mail address, as \"sluis@hospital.example\" is: {error}"),
                ));
            }
        }
        match (&self.user, &self.password) {
            (Some(_), None) => {
                return Err(loaded.error("alarm.mail.user", "there is no `password`: give its file"));
            }
            (None, Some(_)) => return Err(loaded.error("alarm.mail.password", "there is no `user`")),
            (Some(_), Some(_)) if self.security == Security::None => {
                return Err(loaded.error(
                    "alarm.mail.security",
                    "a password is not sent without TLS: give \"starttls\" or \"tls\"",
                ));
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn check_files<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        if let Some(password) = &self.password {
            files::read_secret(&loaded.resolve(password))
                .map_err(|reason| loaded.error("alarm.mail.password", reason.to_string()))?;
        }
        if let Some(ca) = &self.ca {
            authorities(&loaded.resolve(ca))
                .map_err(|error| loaded.error("alarm.mail.ca", format!("{error:#}")))?;
        }
        Ok(())
    }

    /// Host and port.
    fn place(&self) -> Option<(&str, u16)> {
        let (host, port) = self.server.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_name =
            !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:_".contains(c));
        Some((host, port.parse().ok()?)).filter(|_| is_name)
    }

    /// Sends it, and gives the server's own answer. Paths in the table start at `dir`.
    pub(super) fn send(&self, message: &Message<'_>, dir: &Path) -> Result<String> {
        let (host, port) = self.place().context("no host and port")?;
        // The daemon has not necessarily agreed to what stands in the file by now.
        ensure!(self.user.is_none() || self.security != Security::None, "a password is not sent without TLS");
        let mut mail = lettre::Message::builder()
            .from(self.from.parse()?)
            .subject(message.subject())
            .header(ContentType::TEXT_PLAIN)
            .message_id(None);
        for to in &self.to {
            mail = mail.to(to.parse()?);
        }
        let mail = mail.body(message.text())?;
        let parameters = || -> Result<TlsParameters> {
            let mut parameters = TlsParameters::builder(host.to_owned());
            if let Some(ca) = &self.ca {
                parameters = parameters.certificate_store(CertificateStore::None);
                for authority in authorities(&dir.join(ca))? {
                    parameters = parameters.add_root_certificate(authority);
                }
            }
            Ok(parameters.build_rustls()?)
        };
        let security = match self.security {
            Security::Starttls => Tls::Required(parameters()?),
            Security::Tls => Tls::Wrapper(parameters()?),
            Security::None => Tls::None,
        };
        let mut transport =
            SmtpTransport::builder_dangerous(host).port(port).tls(security).timeout(Some(STEP_TIMEOUT));
        if let (Some(user), Some(password)) = (&self.user, &self.password) {
            let password = files::read_secret(&dir.join(password))?;
            transport = transport.credentials(Credentials::new(user.clone(), password.expose().clone()));
        }
        let sent = transport.build().send(&mail).map_err(anyhow::Error::from);
        let response = sent.map_err(|error| match is_late(&error) {
            true => anyhow!("{} did not answer within {} s", self.server, STEP_TIMEOUT.as_secs()),
            false => error,
        })?;
        Ok(response.message().collect::<Vec<_>>().join(" "))
    }
}

/// The system says no more than that it would block.
fn is_late(error: &anyhow::Error) -> bool {
    let kind =
        |cause: &io::Error| matches!(cause.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    error.chain().any(|cause| cause.downcast_ref().is_some_and(kind))
}

fn authorities(path: &Path) -> Result<Vec<Certificate>> {
    let all = tls::certificates(path)?;
    Ok(all
        .into_iter()
        .map(|certificate| Certificate::from_der(certificate.to_vec()))
        .collect::<Result<_, _>>()?)
}
