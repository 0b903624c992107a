//! Plots as pixels: the SVG of a plot drawn by resvg, with a font of the system.

use crate::causes::Problem;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};
use std::sync::Arc;

/// Families that plots are written in, the first that is there.
const FAMILIES: [&str; 9] = [
    "DejaVu Sans",
    "Noto Sans",
    "Liberation Sans",
    "Helvetica Neue",
    "Helvetica",
    "Segoe UI",
    "Arial",
    "Ubuntu",
    "Cantarell",
];

/// Fonts of this machine, read once for all plots.
#[allow(missing_debug_implementations, reason = "a database of fonts says nothing")]
pub struct Fonts(Arc<fontdb::Database>);

impl Fonts {
    /// Looks for them.
    ///
    /// # Errors
    /// There is none.
    pub fn find() -> Result<Self, Problem> {
        let mut fonts = fontdb::Database::new();
        fonts.load_system_fonts();
        let names =
            || fonts.faces().flat_map(|face| face.families.iter().map(|(name, _)| name.clone()));
        let known = FAMILIES
            .into_iter()
            .map(str::to_owned)
            .find(|family| names().any(|name| name == *family));
        let Some(family) = known.or_else(|| names().next()) else {
            return Err(Problem::new(
                "no font is installed, and a PNG of charts without letters says nothing: install one (Debian: \
                 fonts-dejavu-core), or take --svg, whose letters are those of the viewer",
            ));
        };
        fonts.set_sans_serif_family(family);
        Ok(Self(Arc::new(fonts)))
    }

    /// The pixels of a drawing, as a PNG.
    ///
    /// # Errors
    /// It is no SVG, or too large.
    pub fn render(&self, svg: &str) -> Result<Vec<u8>, Problem> {
        let options = Options { fontdb: Arc::clone(&self.0), ..Options::default() };
        let tree = Tree::from_str(svg, &options)
            .map_err(|source| Problem::because("a chart could not be read again", source))?;
        let size = tree.size().to_int_size();
        let mut pixels = Pixmap::new(size.width(), size.height())
            .ok_or_else(|| Problem::new("a chart is too large to be a PNG; take --svg"))?;
        resvg::render(&tree, Transform::identity(), &mut pixels.as_mut());
        pixels
            .encode_png()
            .map_err(|source| Problem::because("a chart could not be written as PNG", source))
    }
}
