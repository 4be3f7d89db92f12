//! One part in a multipart/related body (RFC 2387, PS3.18 §8.6.1.2).

use std::fmt;

/// What separates the parts: 160 random bits, which occur in no data set.
#[derive(Clone, PartialEq, Eq)]
pub struct Boundary(String);

impl Boundary {
    /// Another one for each request.
    pub fn random() -> Self {
        Self::of(base::random_bytes())
    }

    fn of(random: [u8; 20]) -> Self {
        Self(random.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Of the whole body.
    pub(crate) fn content_type(&self) -> String {
        format!("multipart/related; type=\"application/dicom\"; boundary={}", self.0)
    }

    /// What stands before the Part 10 file. Its media type has no transfer-syntax parameter: the file says it itself, and Orthanc
    /// passes over a part whose media type has any parameter.
    pub fn opening(&self) -> Vec<u8> {
        format!("--{}\r\nContent-Type: application/dicom\r\n\r\n", self.0).into()
    }

    /// What stands behind it. Without this the body has no part that is complete (RFC 2046 §5.1.1).
    pub fn closing(&self) -> Vec<u8> {
        format!("\r\n--{}--\r\n", self.0).into()
    }

    /// A body without a part.
    pub fn nothing(&self) -> Vec<u8> {
        format!("--{}--\r\n", self.0).into()
    }
}

impl fmt::Debug for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Boundary")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_one_part_between_its_boundaries() {
        let boundary = Boundary::of([0xAB; 20]);
        let text = "ab".repeat(20);
        assert_eq!(
            boundary.content_type(),
            format!("multipart/related; type=\"application/dicom\"; boundary={text}")
        );
        let body = [boundary.opening(), b"DICM".to_vec(), boundary.closing()].concat();
        let want = format!("--{text}\r\nContent-Type: application/dicom\r\n\r\nDICM\r\n--{text}--\r\n");
        assert_eq!(String::from_utf8(body).unwrap(), want);
        assert_eq!(boundary.nothing(), format!("--{text}--\r\n").into_bytes());
    }

    #[test]
    fn no_two_requests_have_one_boundary() {
        assert_ne!(Boundary::random(), Boundary::random());
    }
}
