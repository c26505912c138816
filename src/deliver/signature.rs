//! Signatures: how a receiver knows that a webhook comes from here and is whole. Pure: it is told the time, and given the secrets.
//!
//! It never shows a key, a secret or a part of one.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::{
    config::{Dialect, KeyError},
    plain,
};

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
    /// What Velt's dialect calls the event by.
    pub velt_id: &'a str,
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
        let key = |secret| {
            let key = dialect.key(secret)?;
            Ok(Hmac::new_from_slice(key.expose_secret()).expect("a key of HMAC has any length"))
        };
        let keys = secrets.iter().map(key).collect::<Result<Vec<_>, _>>()?;
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
            Dialect::Velt => {
                let signature = format!("sha256={}", plain::hex(&mac(&self.keys[0], &[message.body])));
                marks(message).into_iter().chain([("x-velt-signature", signature)]).collect()
            }
        }
    }

    /// One signature a key, so that a receiver which knows any of them is content while a secret is being replaced.
    fn standard(&self, message: &Message<'_>) -> String {
        let before = format!("{}.{}.", message.id, message.seconds);
        let sign = |key| format!("v1,{}", BASE64.encode(mac(key, &[before.as_bytes(), message.body])));
        self.keys.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

/// What Velt's push says of each attempt, signed or not.
pub(super) fn marks(message: &Message<'_>) -> [(&'static str, String); 2] {
    [("x-velt-event-id", message.velt_id.into()), ("x-velt-attempt", message.attempt.to_string())]
}

fn mac(key: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = key.clone();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
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
        Message { id, velt_id: id, seconds, attempt: 0, body }
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
        let headers = signer.headers(&Message { id: "ours", velt_id: "evt_1", seconds: 5, attempt: 2, body });
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
    fn nothing_to_sign_with_is_refused_and_keys_are_never_shown() {
        assert_eq!(signer(Dialect::Standard, &[]).unwrap_err(), KeyError::Missing);
        assert_eq!(signer(Dialect::Standard, &[SECRET, "old"]).unwrap_err(), KeyError::Prefix);
        let shown = format!("{:?}", signer(Dialect::Velt, &["canary"]).unwrap());
        assert_eq!(shown, "Signer { dialect: Velt, keys: 1 }");
    }

    prop_compose! {
        fn a_key()(bytes in prop::collection::vec(any::<u8>(), 24..=64)) -> String {
            format!("whsec_{}", BASE64.encode(bytes))
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
