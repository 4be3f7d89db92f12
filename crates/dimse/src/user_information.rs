//! User information items beyond the plain ones: asynchronous operations window, role selection, extended
//! negotiation, user identity (PS3.7 Annex D.3.3).

use base::{Secret, Uid};
use dicom_ul::pdu::{RequestorRoles, UserIdentityType, UserVariableItem};

use crate::{
    IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, Violation,
    admission::{Implementation, RejectReason, RoleSelection},
    limits::PEER_MAX_PDU_MIN,
};

const ASYNC_WINDOW_ITEM: u8 = 0x53;
const COMMON_EXTENDED_ITEM: u8 = 0x57;
const IDENTITY_ITEM: u8 = 0x58;
const IDENTITY_RESPONSE_ITEM: u8 = 0x59;

/// Asynchronous Operations Window (PS3.7 §D.3.3.3), as the requestor sees it: how many operations may be
/// outstanding; 0 is any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AsyncWindow {
    /// That the requestor invokes.
    pub invoked: u16,
    /// That the requestor performs for the acceptor.
    pub performed: u16,
}

impl AsyncWindow {
    /// One at a time, which holds wherever the item is missing on either side.
    pub const SYNCHRONOUS: Self = Self { invoked: 1, performed: 1 };

    /// What is left of it where this is the most.
    #[must_use]
    pub fn narrowed(self, most: Self) -> Self {
        let least = |a: u16, b: u16| match (a, b) {
            (0, other) | (other, 0) => other,
            (a, b) => a.min(b),
        };
        Self { invoked: least(self.invoked, most.invoked), performed: least(self.performed, most.performed) }
    }
}

/// User Identity (PS3.7 §D.3.3.7.1). What it says of the user prints nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserIdentity {
    /// How the user is identified.
    pub kind: UserIdentityKind,
    /// The acceptor is to say that it accepts.
    pub positive_response_requested: bool,
    /// User name, ticket, assertion or token.
    pub primary: Secret<Vec<u8>>,
    /// The passcode, of [`UserIdentityKind::NameAndPasscode`] only.
    pub secondary: Secret<Vec<u8>>,
}

/// User Identity Type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UserIdentityKind {
    /// 1
    Name,
    /// 2
    NameAndPasscode,
    /// 3
    KerberosTicket,
    /// 4
    SamlAssertion,
    /// 5
    JsonWebToken,
}

/// What an acceptor without users of its own does with identities. Who may send is decided by titles, addresses and
/// certificates; nothing here looks at a name or a passcode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum IdentityPolicy {
    /// As if none had come: no answer, which a requestor that has asked for one may take as it likes.
    #[default]
    Ignore,
    /// Names, with or without passcode, are accepted and answered where an answer was asked for. A ticket or
    /// assertion that cannot be verified is no name: the association is rejected.
    AcceptNames,
    /// An association with an identity is rejected.
    Refuse,
}

impl IdentityPolicy {
    /// The server response for [`Terms::identity_response`](crate::Terms), which is empty for names (PS3.7 Table
    /// D.3-15), or the rejection.
    pub fn answer(self, identity: Option<&UserIdentity>) -> Result<Option<Vec<u8>>, RejectReason> {
        let Some(identity) = identity else { return Ok(None) };
        let is_name = matches!(identity.kind, UserIdentityKind::Name | UserIdentityKind::NameAndPasscode);
        match self {
            Self::Ignore => Ok(None),
            Self::AcceptNames if is_name => Ok(Some(Vec::new())),
            Self::AcceptNames | Self::Refuse => Err(RejectReason::NoReasonGiven),
        }
    }
}

/// SOP Class Extended Negotiation (PS3.7 §D.3.3.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtendedNegotiation {
    /// SOP class.
    pub sop_class: Uid,
    /// Service-class-application-information; its meaning is the service class's.
    pub information: Vec<u8>,
}

/// SOP Class Common Extended Negotiation (PS3.7 §D.3.3.6). It has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommonExtendedNegotiation {
    /// SOP class.
    pub sop_class: Uid,
    /// Its service class: [`STORAGE_SERVICE_CLASS`] says that it is stored with C-STORE.
    pub service_class: Uid,
    /// Related general SOP classes: what it may be treated as.
    pub related_general: Vec<Uid>,
}

/// Storage Service Class (PS3.4 §B.3.1.3), as [`CommonExtendedNegotiation`] names it.
pub const STORAGE_SERVICE_CLASS: &str = "1.2.840.10008.4.2";

/// Service-class-application-information of a storage SCP (PS3.4 Table B.3-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StorageSupport {
    /// Level of support.
    pub level: StorageLevel,
    /// Level of digital signature support, 1 to 3; 0 is unspecified.
    pub signature_level: u8,
    /// Whether data elements may be coerced.
    pub coerces: bool,
}

/// Level of storage support (PS3.4 §B.4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageLevel {
    /// 0
    Local,
    /// 1
    Base,
    /// 2
    Full,
}

impl StorageSupport {
    /// Everything is kept as it came, signatures too: signature level 3 is that, 1 promises nothing (PS3.4 §B.4.1.4).
    pub const BIT_PRESERVING: Self = Self { level: StorageLevel::Full, signature_level: 3, coerces: false };

    /// The six bytes.
    pub fn information(self) -> Vec<u8> {
        let level = match self.level {
            StorageLevel::Local => 0,
            StorageLevel::Base => 1,
            StorageLevel::Full => 2,
        };
        vec![level, 0, self.signature_level, 0, u8::from(self.coerces), 0]
    }

    /// Answers to those of a requestor's items that are about these classes.
    pub fn answers(
        self,
        proposed: &[ExtendedNegotiation],
        is_storage: impl Fn(&Uid) -> bool,
    ) -> Vec<ExtendedNegotiation> {
        let answer = |item: &ExtendedNegotiation| ExtendedNegotiation {
            sop_class: item.sop_class.clone(),
            information: self.information(),
        };
        proposed.iter().filter(|item| is_storage(&item.sop_class)).map(answer).collect()
    }
}

/// What the user information items of one side say.
#[derive(Debug, Default)]
pub(crate) struct UserInformation {
    pub(crate) max_pdu: u32,
    pub(crate) implementation: Implementation,
    pub(crate) roles: Vec<RoleSelection>,
    pub(crate) async_window: Option<AsyncWindow>,
    pub(crate) identity: Option<UserIdentity>,
    /// Server response of an acceptor.
    pub(crate) identity_response: Option<Vec<u8>>,
    pub(crate) extended: Vec<ExtendedNegotiation>,
    pub(crate) common_extended: Vec<CommonExtendedNegotiation>,
    pub(crate) other_items: Vec<u8>,
}

impl UserInformation {
    pub(crate) fn read(items: Vec<UserVariableItem>) -> Result<Self, Violation> {
        let mut user = Self::default();
        for item in items {
            match item {
                UserVariableItem::MaxLength(max) if max != 0 && max < PEER_MAX_PDU_MIN => {
                    return Err(Violation::PeerMaxPdu(max));
                }
                UserVariableItem::MaxLength(max) => user.max_pdu = max,
                UserVariableItem::ImplementationClassUID(uid) => {
                    user.implementation.class_uid = Uid::parse(&uid).ok()
                }
                UserVariableItem::ImplementationVersionName(name) => {
                    user.implementation.version_name = Some(printable(&name));
                }
                UserVariableItem::ScuScpRoleSelectionSubItem(uid, roles) => {
                    if let Ok(sop_class) = Uid::parse(&uid) {
                        user.roles.push(RoleSelection { sop_class, scu: roles.scu, scp: roles.scp });
                    }
                }
                UserVariableItem::SopClassExtendedNegotiationSubItem(uid, information) => {
                    if let Ok(sop_class) = Uid::parse(&uid) {
                        user.extended.push(ExtendedNegotiation { sop_class, information });
                    }
                }
                UserVariableItem::UserIdentityItem(identity) => {
                    let Some(kind) = kind(&identity.identity_type()) else {
                        user.other_items.push(IDENTITY_ITEM);
                        continue;
                    };
                    user.identity = Some(UserIdentity {
                        kind,
                        positive_response_requested: identity.positive_response_requested(),
                        primary: Secret::new(identity.primary_field()),
                        secondary: Secret::new(identity.secondary_field()),
                    });
                }
                UserVariableItem::Unknown(item_type, bytes) => user.unknown(item_type, &bytes),
            }
        }
        Ok(user)
    }

    /// Items that dicom-ul hands on as bytes. One that cannot be read is as good as unknown: these are offers, and
    /// an offer that nobody answers is declined.
    fn unknown(&mut self, item_type: u8, bytes: &[u8]) {
        match (item_type, bytes) {
            (ASYNC_WINDOW_ITEM, [a, b, c, d]) => {
                let (invoked, performed) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                self.async_window = Some(AsyncWindow { invoked, performed });
            }
            (COMMON_EXTENDED_ITEM, bytes) => match common_extended(bytes) {
                Some(item) => self.common_extended.push(item),
                None => self.other_items.push(item_type),
            },
            (IDENTITY_RESPONSE_ITEM, bytes) => match field(&mut &bytes[..]) {
                Some(response) => self.identity_response = Some(response.to_vec()),
                None => self.other_items.push(item_type),
            },
            (item_type, _) => self.other_items.push(item_type),
        }
    }
}

/// A length of two bytes, and so many bytes.
fn field<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *bytes = rest;
    Some(value)
}

fn common_extended(mut bytes: &[u8]) -> Option<CommonExtendedNegotiation> {
    let sop_class = Uid::from_value(field(&mut bytes)?).ok()?;
    let service_class = Uid::from_value(field(&mut bytes)?).ok()?;
    let mut related = field(&mut bytes)?;
    let mut related_general = Vec::new();
    while !related.is_empty() {
        related_general.push(Uid::from_value(field(&mut related)?).ok()?);
    }
    Some(CommonExtendedNegotiation { sop_class, service_class, related_general })
}

/// What we say of ourselves in each A-ASSOCIATE.
pub(crate) fn own(max_pdu: u32) -> Vec<UserVariableItem> {
    vec![
        UserVariableItem::MaxLength(max_pdu),
        UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.to_owned()),
        UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.to_owned()),
    ]
}

pub(crate) fn async_window(window: AsyncWindow) -> UserVariableItem {
    let bytes = [window.invoked.to_be_bytes(), window.performed.to_be_bytes()].concat();
    UserVariableItem::Unknown(ASYNC_WINDOW_ITEM, bytes)
}

pub(crate) fn role(role: &RoleSelection) -> UserVariableItem {
    let roles = RequestorRoles { scu: role.scu, scp: role.scp };
    UserVariableItem::ScuScpRoleSelectionSubItem(role.sop_class.as_str().to_owned(), roles)
}

pub(crate) fn extended(item: &ExtendedNegotiation) -> UserVariableItem {
    let class = item.sop_class.as_str().to_owned();
    UserVariableItem::SopClassExtendedNegotiationSubItem(class, item.information.clone())
}

pub(crate) fn common(item: &CommonExtendedNegotiation) -> UserVariableItem {
    let mut bytes = Vec::new();
    put(&mut bytes, item.sop_class.as_str().as_bytes());
    put(&mut bytes, item.service_class.as_str().as_bytes());
    let mut related = Vec::new();
    item.related_general.iter().for_each(|uid| put(&mut related, uid.as_str().as_bytes()));
    put(&mut bytes, &related);
    UserVariableItem::Unknown(COMMON_EXTENDED_ITEM, bytes)
}

/// As bytes: dicom-ul keeps copies of what it is given, and a passcode should not lie about in more places than this.
pub(crate) fn identity(identity: &UserIdentity) -> UserVariableItem {
    let kind = match identity.kind {
        UserIdentityKind::Name => 1,
        UserIdentityKind::NameAndPasscode => 2,
        UserIdentityKind::KerberosTicket => 3,
        UserIdentityKind::SamlAssertion => 4,
        UserIdentityKind::JsonWebToken => 5,
    };
    let mut bytes = vec![kind, u8::from(identity.positive_response_requested)];
    put(&mut bytes, identity.primary.expose());
    put(&mut bytes, identity.secondary.expose());
    UserVariableItem::Unknown(IDENTITY_ITEM, bytes)
}

pub(crate) fn identity_response(response: &[u8]) -> UserVariableItem {
    let mut bytes = Vec::new();
    put(&mut bytes, response);
    UserVariableItem::Unknown(IDENTITY_RESPONSE_ITEM, bytes)
}

/// Longer values are cut: an item has a length of two bytes itself.
fn put(out: &mut Vec<u8>, value: &[u8]) {
    const FIELD_BYTES_MAX: usize = 32 * 1024;
    let value = value.get(..FIELD_BYTES_MAX).unwrap_or(value);
    out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(value);
}

/// `None` for one that a later version of the codec knows and we do not.
fn kind(identity: &UserIdentityType) -> Option<UserIdentityKind> {
    Some(match identity {
        UserIdentityType::Username => UserIdentityKind::Name,
        UserIdentityType::UsernamePassword => UserIdentityKind::NameAndPasscode,
        UserIdentityType::KerberosServiceTicket => UserIdentityKind::KerberosTicket,
        UserIdentityType::SamlAssertion => UserIdentityKind::SamlAssertion,
        UserIdentityType::Jwt => UserIdentityKind::JsonWebToken,
        _ => return None,
    })
}

/// A peer's text for a log line.
fn printable(text: &str) -> String {
    text.chars().filter(|c| (' '..='~').contains(c)).take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity_of(kind: UserIdentityKind) -> UserIdentity {
        let secret = |text: &[u8]| Secret::new(text.to_vec());
        let (primary, secondary) = (secret(b"user"), secret(b"pass"));
        UserIdentity { kind, positive_response_requested: true, primary, secondary }
    }

    #[test]
    fn windows_narrow_and_zero_is_no_limit() {
        let window = |invoked, performed| AsyncWindow { invoked, performed };
        let cases = [
            (window(0, 0), window(0, 1), window(0, 1)),
            (window(0, 5), window(8, 0), window(8, 5)),
            (window(3, 3), window(8, 1), window(3, 1)),
            (window(1, 1), window(0, 0), window(1, 1)),
        ];
        for (asked, most, want) in cases {
            assert_eq!(asked.narrowed(most), want);
            assert_eq!(most.narrowed(asked), want);
        }
    }

    #[test]
    fn identities_are_ignored_accepted_or_refused_as_configured() {
        use UserIdentityKind::{JsonWebToken, KerberosTicket, Name, NameAndPasscode, SamlAssertion};
        let refused = Err(RejectReason::NoReasonGiven);
        for kind in [Name, NameAndPasscode, KerberosTicket, SamlAssertion, JsonWebToken] {
            let identity = identity_of(kind);
            assert_eq!(IdentityPolicy::Ignore.answer(Some(&identity)), Ok(None));
            assert_eq!(IdentityPolicy::Refuse.answer(Some(&identity)), refused);
            let is_name = matches!(kind, Name | NameAndPasscode);
            let want = if is_name { Ok(Some(Vec::new())) } else { refused.clone() };
            assert_eq!(IdentityPolicy::AcceptNames.answer(Some(&identity)), want);
        }
        for policy in [IdentityPolicy::Ignore, IdentityPolicy::AcceptNames, IdentityPolicy::Refuse] {
            assert_eq!(policy.answer(None), Ok(None));
        }
    }

    #[test]
    fn items_that_are_bytes_are_written_and_read_back() {
        let uid = |text| Uid::parse(text).unwrap();
        let item = CommonExtendedNegotiation {
            sop_class: uid("1.3.6.1.4.1.99.7"),
            service_class: uid(STORAGE_SERVICE_CLASS),
            related_general: vec![uid("1.2.840.10008.5.1.4.1.1.88.22"), uid("1.2.3")],
        };
        let window = AsyncWindow { invoked: 0, performed: 0x0102 };
        let items = vec![common(&item), async_window(window), identity_response(b"ticket")];
        let read = UserInformation::read(items).unwrap();
        assert_eq!(read.common_extended, std::slice::from_ref(&item));
        assert_eq!((read.async_window, read.identity_response), (Some(window), Some(b"ticket".to_vec())));
        let UserVariableItem::Unknown(0x57, whole) = common(&item) else { panic!() };
        for cut in 0..whole.len() {
            let read = UserInformation::read(vec![UserVariableItem::Unknown(0x57, whole[..cut].to_vec())]);
            assert_eq!(read.unwrap().other_items, [0x57], "cut at {cut}");
        }
    }

    #[test]
    fn nothing_of_a_user_is_printed() {
        let text = format!("{:?}", identity_of(UserIdentityKind::NameAndPasscode));
        assert!(!text.contains("user") && !text.contains("117"), "{text}");
    }
}
