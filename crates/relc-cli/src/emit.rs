//! `relc compile --emit obj | staticlib`: the explainer as a part of a program in C.

use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use ar_archive_writer::{ArchiveKind, DEFAULT_OBJECT_READER, NewArchiveMember, write_archive_to_stream};
use object::read::archive::ArchiveFile;
use relc::files::{Draft, write_atomically};

use crate::failure::Failure;

/// The header of relc's library for C.
const HEADER: &str = include_str!("../../relc-capi/include/relc.h");

/// The name of that library.
const LIBRARY: &str = "librelc_capi.a";

/// The symbol of a file that is not named otherwise: `model` of `model.o` and `libmodel.a`.
pub fn symbol(out: &Path) -> String {
    let stem = out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = stem.strip_prefix("lib").filter(|rest| !rest.is_empty()).unwrap_or(&stem);
    let mut name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        name.insert(0, '_');
    }
    name
}

/// Writes `NAME.h` and `relc.h`, which it includes, beside a file; their paths.
pub fn write_headers(out: &Path, symbol: &str, model: &str) -> Result<[PathBuf; 2], Failure> {
    let folder = out.parent().unwrap_or(Path::new(""));
    let paths = [folder.join(format!("{symbol}.h")), folder.join("relc.h")];
    let guard = format!("RELC_MODEL_{}_H", symbol.to_uppercase());
    // A file's name may be anything, and end a comment's line.
    let model = model.replace(|c: char| c.is_control() || c == '\\', "?");
    let text = format!(
        "// {model}, compiled by relc {}. Linked into a program, it is loaded by relc_load_model(&{symbol}, &error).\n\n\
         #ifndef {guard}\n#define {guard}\n\n#include \"relc.h\"\n\n\
         #ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n\
         extern const struct relc_model {symbol};\n\n\
         #ifdef __cplusplus\n}}\n#endif\n\n#endif\n",
        env!("CARGO_PKG_VERSION")
    );
    for (path, text) in paths.iter().zip([text.as_str(), HEADER]) {
        write_atomically(path, |file| std::io::Write::write_all(file, text.as_bytes()))?;
    }
    Ok(paths)
}

/// Where relc's library for C is: as told, or beside the command, or in the `lib` beside its folder.
fn place(told: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = told {
        return Ok(path.to_path_buf());
    }
    let command = std::env::current_exe()?;
    let folder = command.parent().unwrap_or(Path::new(""));
    let places = [folder.join(LIBRARY), folder.join("../lib").join(LIBRARY)];
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        Failure::usage(format!(
            "{LIBRARY} is neither {} nor {}; name it by --library (`cargo build --release` makes it), or \
             --emit obj and link the object and the library yourself",
            places[0].display(),
            places[1].display()
        ))
    })
}

/// relc's library for C.
pub struct Library {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Library {
    /// Reads it from where it was told to be, or from where it is usually.
    ///
    /// # Errors
    /// If it is not there, or no static library that holds its members.
    pub fn read(told: Option<&Path>) -> Result<Library, Failure> {
        let path = place(told)?;
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let library = Library { path, bytes };
        library.members()?;
        Ok(library)
    }

    fn members(&self) -> Result<Vec<NewArchiveMember<'_>>, Failure> {
        let bad = |what: String| Failure::from(format!("{}: {what}", self.path.display()));
        let no_archive = |error: object::read::Error| bad(format!("it is no static library: {error}"));
        let archive = ArchiveFile::parse(&*self.bytes).map_err(no_archive)?;
        if archive.is_thin() {
            return Err(bad("it names its members' files in place of holding them (a thin archive)".into()));
        }
        let members = archive.members().map(|member| -> Result<NewArchiveMember<'_>, Failure> {
            let member = member.map_err(no_archive)?;
            let name = String::from_utf8_lossy(member.name()).into_owned();
            let data = member.data(&*self.bytes).map_err(no_archive)?;
            Ok(NewArchiveMember::new(data, &DEFAULT_OBJECT_READER, name))
        });
        members.collect()
    }

    /// Writes a static library of an object and all that is in this one.
    pub fn write_with(&self, object: &Path, out: &Path) -> Result<(), Failure> {
        let mut members = self.members()?;
        let name = out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        members.push(NewArchiveMember::new(fs::read(object)?, &DEFAULT_OBJECT_READER, format!("{name}.o")));
        let kind = if cfg!(target_vendor = "apple") { ArchiveKind::Darwin } else { ArchiveKind::Gnu };
        let mut draft = Draft::create(out)?;
        let mut writer = BufWriter::new(draft.file());
        write_archive_to_stream(&mut writer, &members, kind, false, None)?;
        std::io::Write::flush(&mut writer)?;
        drop(writer);
        Ok(draft.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_identifiers() {
        let cases = [
            ("out/resnet50.o", "resnet50"),
            ("libresnet50.a", "resnet50"),
            ("lib.o", "lib"),
            ("8-bit net.v2.o", "_8_bit_net_v2"),
            ("ö.o", "_"),
        ];
        for (out, expected) in cases {
            assert_eq!(symbol(Path::new(out)), expected);
        }
    }

    #[test]
    fn a_models_name_stays_in_its_comment() {
        let folder = tempfile::tempdir().unwrap();
        let [header, _] = write_headers(&folder.path().join("a.o"), "a", "x\\\n#error\u{7}").unwrap();
        let text = fs::read_to_string(header).unwrap();
        assert!(text.starts_with("// x??#error?, compiled by relc"), "{text}");
    }
}
