//! CMS EnvelopedData (RFC 5652 §6): for certificates with RSA keys, by RSAES-OAEP with SHA-256 (RFC 4055 §4.1) and AES-256 in CBC mode
//! (RFC 3565). `openssl cms -decrypt` opens it.
//!
//! Nothing in it is authentic: whoever can read the certificate can make one. What pseudonymization encrypts by it travels sealed and
//! countersigned all the same, and nothing is decided by what is found inside.

use aws_lc_rs::cipher::{
    AES_256, AES_256_KEY_LEN, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use base::Secret;
use cms::cert::IssuerAndSerialNumber;
use cms::cert::x509::Certificate;
use cms::content_info::{CmsVersion, ContentInfo};
use cms::enveloped_data::{
    EncryptedContentInfo, EnvelopedData, KeyTransRecipientInfo, RecipientIdentifier, RecipientInfo,
    RecipientInfos,
};
use der::asn1::{ObjectIdentifier, OctetString};
use der::{Any, Decode as _, Encode as _, SecretDocument};
use thiserror::Error;

const ID_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ID_ENVELOPED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.3");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSAES_OAEP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.7");
const AES_256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");
/// RSAES-OAEP-params: SHA-256, and MGF1 with SHA-256.
const OAEP_PARAMETERS: &[u8] = &[
    0x30, 0x2F, 0xA0, 0x0F, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
    0x05, 0x00, 0xA1, 0x1C, 0x30, 0x1A, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x08,
    0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
];
const BLOCK_BYTES: usize = 16;
/// Of a key that protects what must stay secret for as long as a patient lives.
const RSA_BITS_MIN: usize = 3072;

/// Why a certificate cannot be encrypted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// It is none.
    #[error("is no X.509 certificate in PEM")]
    Unreadable,
    /// Its key is another kind of key.
    #[error("has no RSA key; CMS key transport needs one (PS3.15 E.1)")]
    NotRsa,
    /// Its key is weak.
    #[error("has an RSA key of {0} bits; what it protects needs at least {RSA_BITS_MIN}")]
    Weak(usize),
}

/// Why something could not be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the original attributes could not be encrypted")]
pub struct SealError;

/// Why something cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The private key.
    #[error("the key is no RSA private key in PEM (PKCS #8, not encrypted)")]
    Key,
    /// What it should open.
    #[error("this is no CMS EnvelopedData with AES-256 in CBC mode")]
    Unreadable,
    /// The key fits none of its recipients, or it was changed.
    #[error("the key does not open it: it was encrypted for another certificate, or it was changed")]
    OtherKey,
}

/// A certificate that is encrypted for.
#[derive(Clone, Debug)]
pub struct Recipient {
    certificate: Certificate,
    key: PublicEncryptingKey,
}

impl Recipient {
    /// From a certificate in PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertificateError> {
        let (label, der) = decoded(pem).ok_or(CertificateError::Unreadable)?;
        let certificate = Certificate::from_der(der.as_bytes()).map_err(|_| CertificateError::Unreadable)?;
        if label != "CERTIFICATE" {
            return Err(CertificateError::Unreadable);
        }
        let info = certificate.tbs_certificate().subject_public_key_info();
        if info.algorithm.oid != RSA_ENCRYPTION {
            return Err(CertificateError::NotRsa);
        }
        let info = info.to_der().map_err(|_| CertificateError::Unreadable)?;
        let key = PublicEncryptingKey::from_der(&info).map_err(|_| CertificateError::NotRsa)?;
        match key.key_size_bits() {
            bits if bits < RSA_BITS_MIN => Err(CertificateError::Weak(bits)),
            _ => Ok(Self { certificate, key }),
        }
    }

    /// Its subject (RFC 4514).
    pub fn subject(&self) -> String {
        self.certificate.tbs_certificate().subject().to_string()
    }

    /// When it ends, in seconds since 1970.
    pub fn ends_at(&self) -> u64 {
        self.certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs()
    }

    /// The certificate.
    pub(crate) fn der(&self) -> Vec<u8> {
        self.certificate.to_der().unwrap_or_default()
    }

    fn info(&self, content_key: &[u8]) -> Option<RecipientInfo> {
        let key = OaepPublicEncryptingKey::new(self.key.clone()).ok()?;
        let mut encrypted = vec![0; key.ciphertext_size()];
        let written = key.encrypt(&OAEP_SHA256_MGF1SHA256, content_key, &mut encrypted, None).ok()?.len();
        encrypted.truncate(written);
        let certificate = self.certificate.tbs_certificate();
        let rid = IssuerAndSerialNumber {
            issuer: certificate.issuer().clone(),
            serial_number: certificate.serial_number().clone(),
        };
        Some(RecipientInfo::Ktri(KeyTransRecipientInfo {
            version: CmsVersion::V0,
            rid: RecipientIdentifier::IssuerAndSerialNumber(rid),
            key_enc_alg: cms::cert::x509::spki::AlgorithmIdentifier {
                oid: RSAES_OAEP,
                parameters: Some(Any::from_der(OAEP_PARAMETERS).ok()?),
            },
            enc_key: OctetString::new(encrypted).ok()?,
        }))
    }
}

/// Encrypts `content`; each of the recipients can read it. The result is a ContentInfo in DER.
pub fn seal(recipients: &[Recipient], content: &[u8]) -> Result<Vec<u8>, SealError> {
    sealed(recipients, content).ok_or(SealError)
}

fn sealed(recipients: &[Recipient], content: &[u8]) -> Option<Vec<u8>> {
    let content_key = Secret::<[u8; AES_256_KEY_LEN]>::random();
    let cipher = UnboundCipherKey::new(&AES_256, content_key.expose()).ok()?;
    let mut encrypted = content.to_vec();
    let context = PaddedBlockEncryptingKey::cbc_pkcs7(cipher).ok()?.encrypt(&mut encrypted).ok()?;
    let DecryptionContext::Iv128(iv) = context else { return None };
    let iv = OctetString::new(iv.as_ref().to_vec()).ok()?;
    let infos = recipients.iter().map(|one| one.info(content_key.expose())).collect::<Option<Vec<_>>>()?;
    let enveloped = EnvelopedData {
        version: CmsVersion::V0,
        originator_info: None,
        recip_infos: RecipientInfos::try_from(infos).ok()?,
        encrypted_content: EncryptedContentInfo {
            content_type: ID_DATA,
            content_enc_alg: cms::cert::x509::spki::AlgorithmIdentifier {
                oid: AES_256_CBC,
                parameters: Some(Any::encode_from(&iv).ok()?),
            },
            encrypted_content: Some(OctetString::new(encrypted).ok()?),
        },
        unprotected_attrs: None,
    };
    let content = Any::encode_from(&enveloped).ok()?;
    ContentInfo { content_type: ID_ENVELOPED_DATA, content }.to_der().ok()
}

/// Opens what was encrypted for the certificate of a private key (PKCS #8 in PEM).
pub fn open(private_key: &[u8], sealed: &[u8]) -> Result<Secret<Vec<u8>>, OpenError> {
    let (label, der) = decoded(private_key).ok_or(OpenError::Key)?;
    if label != "PRIVATE KEY" {
        return Err(OpenError::Key);
    }
    let key = PrivateDecryptingKey::from_pkcs8(der.as_bytes()).map_err(|_| OpenError::Key)?;
    let key = OaepPrivateDecryptingKey::new(key).map_err(|_| OpenError::Key)?;
    // A value of even length may be padded with a zero byte (PS3.5 §6.2, OB).
    let content = ContentInfo::from_der(unpadded(sealed)).map_err(|_| OpenError::Unreadable)?;
    let enveloped: EnvelopedData = content.content.decode_as().map_err(|_| OpenError::Unreadable)?;
    let algorithm = &enveloped.encrypted_content.content_enc_alg;
    let iv = algorithm.parameters.as_ref().and_then(|any| any.decode_as::<OctetString>().ok());
    let iv: Option<[u8; BLOCK_BYTES]> = iv.and_then(|iv| iv.as_bytes().try_into().ok());
    let (Some(iv), Some(content), AES_256_CBC) =
        (iv, enveloped.encrypted_content.encrypted_content.as_ref(), algorithm.oid)
    else {
        return Err(OpenError::Unreadable);
    };
    let infos = enveloped.recip_infos.0.iter();
    let opened = infos.filter_map(|info| content_key(&key, info)).find_map(|content_key| {
        let cipher = UnboundCipherKey::new(&AES_256, content_key.expose()).ok()?;
        let mut bytes = content.as_bytes().to_vec();
        let context = DecryptionContext::Iv128(FixedLength::from(&iv));
        let opened =
            PaddedBlockDecryptingKey::cbc_pkcs7(cipher).ok()?.decrypt(&mut bytes, context).ok()?.len();
        bytes.truncate(opened);
        Some(Secret::new(bytes))
    });
    opened.ok_or(OpenError::OtherKey)
}

fn content_key(
    key: &OaepPrivateDecryptingKey,
    info: &RecipientInfo,
) -> Option<Secret<[u8; AES_256_KEY_LEN]>> {
    let RecipientInfo::Ktri(info) = info else { return None };
    if info.key_enc_alg.oid != RSAES_OAEP {
        return None;
    }
    let mut opened = vec![0; key.min_output_size()];
    let opened = key.decrypt(&OAEP_SHA256_MGF1SHA256, info.enc_key.as_bytes(), &mut opened, None).ok()?;
    Some(Secret::new((&*opened).try_into().ok()?))
}

/// Label and content of PEM (RFC 7468).
fn decoded(pem: &[u8]) -> Option<(&str, SecretDocument)> {
    SecretDocument::from_pem(std::str::from_utf8(pem).ok()?).ok()
}

/// Without what stands behind the outermost SEQUENCE, when that is a zero byte.
fn unpadded(bytes: &[u8]) -> &[u8] {
    match ContentInfo::from_der(bytes) {
        Err(_) => bytes.strip_suffix(&[0]).unwrap_or(bytes),
        Ok(_) => bytes,
    }
}
