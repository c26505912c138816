//! Signatures: how a receiver knows that a webhook comes from here and is whole. Pure: it is told the time, and given the secrets.
//!
//! It never shows a key, a secret or a part of one.

use std::fmt;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::Sha256;
use thiserror::Error;

use crate::plain;

/// Trailing bits are ignored, as the decoders of most languages do: sender and receiver have to get the same key.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

const PREFIX: &str = "whsec_";

/// What Standard Webhooks allows, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// How signatures are made and which headers carry them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Standard Webhooks.
    Standard,
    /// Velt's own push.
    Velt,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standard => "standard",
            Self::Velt => "velt",
        })
    }
}

/// Why a secret can't sign. Says nothing of the secret itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    #[error("there is no secret to sign with")]
    Missing,
    #[error("a secret of Standard Webhooks begins with whsec_, and this one does not")]
    Prefix,
    #[error(
        "a private key of ed25519 (whsk_) makes another kind of signature; this program signs with a secret (whsec_)"
    )]
    Asymmetric,
    #[error("what follows whsec_ is not base64")]
    Base64,
    #[error("the key behind whsec_ must have 24 to 64 bytes")]
    Length,
}

/// The keys of one receiver.
#[derive(Clone)]
pub struct Signer {
    dialect: Dialect,
    /// At least one; the first is the new one.
    keys: Vec<Hmac<Sha256>>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("dialect", &self.dialect).field("keys", &self.keys.len()).finish()
    }
}

/// One attempt, as far as a signature is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The event's id; it has no `.` in it, so nobody can move the borders between what is signed.
    pub id: &'a str,
    /// When the attempt is made, in seconds since 1970.
    pub seconds: i64,
    /// How many attempts were made before.
    pub attempt: u32,
    /// Exactly what is sent.
    pub body: &'a [u8],
}

impl Signer {
    /// `secrets`: the new one first. Velt's dialect has no room for a second signature: only the first signs.
    pub fn new(dialect: Dialect, secrets: &[SecretString]) -> Result<Self, KeyError> {
        let keys = secrets.iter().map(|secret| key(dialect, secret)).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(KeyError::Missing) } else { Ok(Self { dialect, keys }) }
    }

    /// The headers that carry the signature of `message` and what it covers, names in lower case.
    pub fn headers(&self, message: &Message<'_>) -> Vec<(&'static str, String)> {
        match self.dialect {
            Dialect::Standard => vec![
                ("webhook-id", message.id.into()),
                ("webhook-timestamp", message.seconds.to_string()),
                ("webhook-signature", self.standard(message)),
            ],
            Dialect::Velt => vec![
                ("x-velt-event-id", message.id.into()),
                ("x-velt-attempt", message.attempt.to_string()),
                ("x-velt-signature", format!("sha256={}", plain::hex(&mac(&self.keys[0], &[message.body])))),
            ],
        }
    }

    /// One signature a key, so that a receiver which knows any of them is content while a secret is being replaced.
    fn standard(&self, message: &Message<'_>) -> String {
        let before = format!("{}.{}.", message.id, message.seconds);
        let sign = |key| format!("v1,{}", BASE64.encode(mac(key, &[before.as_bytes(), message.body])));
        self.keys.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

fn mac(key: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = key.clone();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn key(dialect: Dialect, secret: &SecretString) -> Result<Hmac<Sha256>, KeyError> {
    let text = secret.expose_secret();
    let bytes: SecretSlice<u8> = match dialect {
        Dialect::Velt if text.is_empty() => return Err(KeyError::Missing),
        Dialect::Velt => text.as_bytes().to_vec().into(),
        Dialect::Standard => {
            // Without its prefix it could be a secret of another kind, whose text happens to be base64: every signature would be wrong.
            let encoded = text.strip_prefix(PREFIX).ok_or(if text.starts_with("whsk_") {
                KeyError::Asymmetric
            } else {
                KeyError::Prefix
            })?;
            let bytes: SecretSlice<u8> = BASE64.decode(encoded).map_err(|_| KeyError::Base64)?.into();
            if !LENGTHS.contains(&bytes.expose_secret().len()) {
                return Err(KeyError::Length);
            }
            bytes
        }
    };
    Ok(Hmac::new_from_slice(bytes.expose_secret()).expect("a key of HMAC has any length"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn signer(dialect: Dialect, secrets: &[&str]) -> Result<Signer, KeyError> {
        Signer::new(dialect, &secrets.iter().map(|secret| SecretString::from(*secret)).collect::<Vec<_>>())
    }

    fn message<'a>(id: &'a str, seconds: i64, body: &'a [u8]) -> Message<'a> {
        Message { id, seconds, attempt: 0, body }
    }

    /// The signature header alone.
    fn signed(dialect: Dialect, secrets: &[&str], message: &Message<'_>) -> String {
        let headers = signer(dialect, secrets).unwrap().headers(message);
        headers.into_iter().find(|(name, _)| name.ends_with("-signature")).unwrap().1
    }

    #[test]
    fn the_published_vector_of_standard_webhooks() {
        let headers = signer(Dialect::Standard, &[SECRET]).unwrap().headers(&message(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        ));
        let expected = [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ];
        assert_eq!(headers, expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn velts_dialect_signs_the_body_alone_with_the_raw_secret() {
        // The well-known example of HMAC-SHA256 (RFC 4231, case 2).
        let signer = signer(Dialect::Velt, &["Jefe", "old"]).unwrap();
        let body = b"what do ya want for nothing?";
        let headers = signer.headers(&Message { id: "evt_1", seconds: 5, attempt: 2, body });
        let expected = [
            ("x-velt-event-id", "evt_1"),
            ("x-velt-attempt", "2"),
            ("x-velt-signature", "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        ];
        assert_eq!(headers, expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn each_of_several_secrets_signs_the_new_one_first() {
        let new = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let message = message("evt_1", 1, b"{}");
        let alone = |secret| signed(Dialect::Standard, &[secret], &message);
        let both = signed(Dialect::Standard, &[new, SECRET], &message);
        assert_eq!(both, format!("{} {}", alone(new), alone(SECRET)));
    }

    #[test]
    fn what_is_no_key_is_refused_and_never_shown() {
        let of = |bytes: usize| format!("whsec_{}", BASE64.encode(vec![7; bytes]));
        for (secret, expected) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", KeyError::Prefix),
            ("WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", KeyError::Prefix),
            ("canary", KeyError::Prefix),
            ("whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", KeyError::Asymmetric),
            ("whsec_canary-canary-canary-canary-cana", KeyError::Base64),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw=", KeyError::Base64),
            ("whsec_MfKQ9r8GKYqr TwjUPD8ILPZIo2LaLaSw", KeyError::Base64),
            ("whsec_", KeyError::Length),
            (&of(23), KeyError::Length),
            (&of(65), KeyError::Length),
        ] {
            let error = signer(Dialect::Standard, &[secret]).unwrap_err();
            assert_eq!(error, expected, "{secret}");
            assert!(!error.to_string().contains("canary"));
        }
        for good in [of(24), of(32), of(64)] {
            assert!(signer(Dialect::Standard, &[&good]).is_ok(), "{good}");
        }
        assert_eq!(signer(Dialect::Standard, &[]).unwrap_err(), KeyError::Missing);
        assert_eq!(signer(Dialect::Standard, &[SECRET, "old"]).unwrap_err(), KeyError::Prefix);
        assert_eq!(signer(Dialect::Velt, &[""]).unwrap_err(), KeyError::Missing);
        let shown = format!("{:?}", signer(Dialect::Velt, &["canary"]).unwrap());
        assert_eq!(shown, "Signer { dialect: Velt, keys: 1 }");
    }

    prop_compose! {
        fn a_key()(bytes in prop::collection::vec(any::<u8>(), LENGTHS)) -> String {
            format!("{PREFIX}{}", BASE64.encode(bytes))
        }
    }

    proptest! {
        #[test]
        fn whatever_differs_differs_in_its_signature(
            (id, other_id) in ("[A-Za-z0-9_]{1,20}", "[A-Za-z0-9_]{1,20}"),
            (at, other_at) in (any::<i64>(), any::<i64>()),
            (body, other_body) in (any::<Vec<u8>>(), any::<Vec<u8>>()),
            (key, other_key) in (a_key(), a_key()),
        ) {
            let base = signed(Dialect::Standard, &[&key], &message(&id, at, &body));
            let of = |key: &str, id, at, body| signed(Dialect::Standard, &[key], &message(id, at, body));
            prop_assert_eq!(&base, &of(&key, &id, at, &body));
            prop_assert_eq!(base == of(&key, &other_id, at, &body), id == other_id);
            prop_assert_eq!(base == of(&key, &id, other_at, &body), at == other_at);
            prop_assert_eq!(base == of(&key, &id, at, &other_body), body == other_body);
            prop_assert_eq!(base == of(&other_key, &id, at, &body), key == other_key);

            let base = signed(Dialect::Velt, &[&key], &message(&id, at, &body));
            let of = |key: &str, body| signed(Dialect::Velt, &[key], &message(&id, at, body));
            prop_assert_eq!(&base, &of(&key, &body));
            prop_assert_eq!(base == of(&key, &other_body), body == other_body);
            prop_assert_eq!(base == of(&other_key, &body), key == other_key);
        }

        #[test]
        fn one_changed_bit_of_a_body_changes_its_signature(
            mut body in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>(), bit in 0_u8..8,
        ) {
            let whole = body.clone();
            let at = at.index(body.len());
            body[at] ^= 1 << bit;
            for (dialect, secret) in [(Dialect::Standard, SECRET), (Dialect::Velt, "raw")] {
                let of = |body| signed(dialect, &[secret], &message("evt_1", 1, body));
                prop_assert_ne!(of(&whole), of(&body));
            }
        }
    }
}
