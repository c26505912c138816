//! What a secret must be to sign webhooks. Pure; never shows a secret or a part of one.

use std::fmt;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use thiserror::Error;

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

impl Dialect {
    /// The key that `secret` stands for.
    pub fn key(self, secret: &SecretString) -> Result<SecretSlice<u8>, KeyError> {
        let text = secret.expose_secret();
        match self {
            Self::Velt if text.is_empty() => Err(KeyError::Missing),
            Self::Velt => Ok(text.as_bytes().to_vec().into()),
            Self::Standard => {
                // Without its prefix it could be a secret of another kind, whose text happens to be base64: every signature would be wrong.
                let asymmetric = text.starts_with("whsk_");
                let otherwise = if asymmetric { KeyError::Asymmetric } else { KeyError::Prefix };
                let encoded = text.strip_prefix(PREFIX).ok_or(otherwise)?;
                let key: SecretSlice<u8> = BASE64.decode(encoded).map_err(|_| KeyError::Base64)?.into();
                if LENGTHS.contains(&key.expose_secret().len()) { Ok(key) } else { Err(KeyError::Length) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn a_key_is_what_its_dialect_says() {
        let key = |dialect: Dialect, text: &str| dialect.key(&text.into()).unwrap().expose_secret().to_vec();
        assert_eq!(key(Dialect::Standard, SECRET), BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
        assert_eq!(key(Dialect::Velt, SECRET), SECRET.as_bytes());
        for bytes in [24, 32, 64] {
            assert_eq!(key(Dialect::Standard, &of(bytes)).len(), bytes);
        }
        let trailing = format!("whsec_{}h=", "A".repeat(42));
        assert_eq!(key(Dialect::Standard, &trailing).len(), 32, "random letters, as other decoders take them");
    }

    fn of(bytes: usize) -> String {
        format!("whsec_{}", BASE64.encode(vec![7; bytes]))
    }

    #[test]
    fn what_is_no_key_is_refused_and_never_shown() {
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
            let error = Dialect::Standard.key(&secret.into()).unwrap_err();
            assert_eq!(error, expected, "{secret}");
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
        assert_eq!(Dialect::Velt.key(&"".into()).unwrap_err(), KeyError::Missing);
        assert!(!format!("{:?}", Dialect::Velt.key(&"canary".into())).contains("canary"));
    }
}
