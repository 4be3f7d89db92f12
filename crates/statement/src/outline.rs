//! The order of PS3.2 Annex N. Sections keep the numbers that the Annex gives them; those about services that the
//! product does not have are left out, so that numbers have gaps.

mod front;
mod network;
mod security;
mod services;

use crate::{
    document::{Document, Section},
    model::{Role, Statement},
};

impl Statement {
    /// What it looks like.
    pub fn document(&self) -> Document {
        let mut cover = vec![
            ("Product".to_owned(), format!("Sluis {}, `{}`", self.product.version, self.product.role)),
            ("Values".to_owned(), self.values().to_owned()),
        ];
        if let Some(build) = &self.build {
            cover.push((
                "Build".to_owned(),
                format!("{}, SHA-256 of the program `{}`", build.target, build.sha256),
            ));
            cover.extend(build.commit.iter().map(|commit| ("Commit".to_owned(), format!("`{commit}`"))));
        }
        cover.push(("Form".to_owned(), "PS3.2 Annex N; also as JSON for programs".to_owned()));
        let mut sections: Vec<Section> = front::sections(self);
        sections.extend(services::sections(self));
        sections.extend(network::sections(self));
        sections.extend(security::sections(self));
        Document {
            title: format!("DICOM Conformance Statement: Sluis {}", self.product.role),
            cover,
            glance: self.prose.glance.clone(),
            sections,
        }
    }

    fn values(&self) -> &'static str {
        if self.product.configured { "as configured in one installation" } else { "defaults of the product" }
    }
}

impl Role {
    fn entity(self) -> &'static str {
        match self {
            Self::GatewayOut => "GATEWAY-OUT",
            Self::GatewayIn => "GATEWAY-IN",
        }
    }
}

fn lines<const N: usize>(lines: [&str; N]) -> Vec<String> {
    lines.map(str::to_owned).to_vec()
}
