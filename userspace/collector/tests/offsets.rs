//! The resolver against another reader of the same types: `bpftool` writes them down as C, and a compiler lays them out.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use hitscope_collector::kernel::btf;
use hitscope_schemas::offsets::{ABSENT, Offsets};

/// Runs to the end; fails with what it said.
fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn succeed(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Every field's offset, by `bpftool` and the C compiler, where the kernel has the field.
fn by_compiler(types: &Path) -> BTreeMap<&'static str, u32> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let header = File::create(folder.path().join("types.h")).expect("a header");
    let mut dump = Command::new("bpftool");
    dump.args(["btf", "dump", "file"]).arg(types).args(["format", "c"]).stdout(header);
    assert!(dump.status().expect("bpftool starts").success(), "{dump:?}");

    // Of each name of each field one line for a whole field, and one for a bit field, which has no address; those that do not
    // hold are left out the second time.
    let mut lines = Vec::new();
    for (field, structure, paths) in Offsets::FIELDS {
        for path in *paths {
            lines.push(format!(r#"printf("{field} %lu\n", __builtin_offsetof(struct {structure}, {path}));"#));
            lines.push(format!(
                "{{ union {{ struct {structure} it; unsigned char bytes[sizeof(struct {structure})]; }} u; \
                 __builtin_memset(&u, 0, sizeof u); u.it.{path} = 1; \
                 for (unsigned long bit = 0; bit < 8 * sizeof u; bit++) \
                 if (u.bytes[bit / 8] >> bit % 8 & 1) {{ printf(\"{field} %lu\\n\", bit); break; }} }}"
            ));
        }
    }
    let compile = |without: &BTreeSet<usize>, output: &str| -> (bool, String) {
        let mut source = "#include \"types.h\"\nextern int printf(const char *, ...);\nint main() {\n".to_owned();
        for (index, line) in lines.iter().enumerate() {
            source += if without.contains(&index) { "" } else { line };
            source.push('\n');
        }
        fs::write(folder.path().join("offsets.c"), source + "}\n").expect("the source");
        let mut compiler = Command::new("cc");
        compiler.args(["-w", "-fmax-errors=0", "-o", output, "offsets.c"]).current_dir(folder.path());
        let Output { status, stderr, .. } = self::output(&mut compiler);
        (status.success(), String::from_utf8_lossy(&stderr).into_owned())
    };
    let (_, errors) = compile(&BTreeSet::new(), "/dev/null");
    let mut refused = BTreeSet::new();
    for error in errors.lines().filter(|line| line.contains(" error: ")) {
        // The lines before the first are three.
        let line = error.strip_prefix("offsets.c:").and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
        refused.insert(line.unwrap_or_else(|| panic!("{error}")) - 4);
    }
    let (compiled, errors) = compile(&refused, "offsets");
    assert!(compiled, "{errors}");

    let mut found = BTreeMap::new();
    for line in succeed(&mut Command::new(folder.path().join("offsets"))).lines() {
        let (name, offset) = line.split_once(' ').expect("a name and a number");
        let (name, ..) = Offsets::FIELDS.iter().find(|(field, ..)| *field == name).expect("one of ours");
        found.entry(*name).or_insert_with(|| offset.parse().expect("an offset"));
    }
    found
}

/// Compares every field; returns those that are absent.
fn compare(types: &Path) -> Vec<&'static str> {
    let mut resolved = btf::resolve(types).unwrap_or_else(|error| panic!("{}: {error}", types.display()));
    let expected = by_compiler(types);
    let mut absent = Vec::new();
    for (offset, (field, ..)) in resolved.offsets.as_slice_mut().iter().zip(Offsets::FIELDS) {
        assert_eq!(*offset, expected.get(field).copied().unwrap_or(ABSENT), "{field} in {}", types.display());
        assert_eq!(*offset == ABSENT, resolved.absent.contains_key(field), "{field} in {}", types.display());
        if *offset == ABSENT {
            absent.push(*field);
        }
    }
    println!("{}: {} fields agree", types.display(), Offsets::FIELDS.len());
    absent
}

#[test]
fn of_the_running_kernel() {
    assert_eq!(compare(Path::new(btf::PATH)), [""; 0]);
}

/// Those that xtask keeps to test with.
fn kept() -> Vec<PathBuf> {
    let folder = env::var_os("HITSCOPE_KERNELS").expect("HITSCOPE_KERNELS, which xtask sets");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut kept: Vec<PathBuf> = entries.map(|entry| entry.path().join("btf")).filter(|path| path.is_file()).collect();
    kept.sort();
    kept
}

#[test]
fn of_every_kernel_to_test_with() {
    let kept = kept();
    if kept.is_empty() {
        let list = env::var_os("HITSCOPE_SKIPS").expect("kernels to read, or a list of skipped tests");
        let mut list = File::options().create(true).append(true).open(list).expect("the list of skipped tests");
        writeln!(list, "of_every_kernel_to_test_with: no kernels were fetched").expect("the list of skipped tests");
    }
    for types in &kept {
        assert_eq!(compare(types), [""; 0], "{}", types.display());
    }
}

/// Types as the running kernel's, in which no field has this name.
fn types_without(name: &str) -> Vec<u8> {
    let mut types = fs::read(btf::PATH).expect("the kernel's types");
    let number = |at: usize| u32::from_le_bytes(types[at..at + 4].try_into().expect("four bytes")) as usize;
    // struct btf_header: where the names begin, and how long they are.
    let (header, start, length) = (number(4), number(16), number(20));
    let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
    let names = &mut types[header + start..][..length];
    let at = names.windows(wanted.len()).position(|window| window == wanted).expect("the kernel has the name");
    names[at + 1] = b'?';
    types
}

#[test]
fn a_field_that_is_gone_is_absent_and_the_others_stay() {
    let whole = btf::resolve(Path::new(btf::PATH)).expect("the kernel's types");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, gone, reason) in [
        ("in_iowait", "task_in_iowait", "struct task_struct has no in_iowait"),
        ("sum_exec_runtime", "task_sum_exec_runtime", "struct task_struct has no se.sum_exec_runtime"),
        ("bytes_retrans", "tcp_bytes_retrans", "struct tcp_sock has no bytes_retrans"),
        ("start_boottime", "task_start_boottime", "struct task_struct has no start_boottime or real_start_time"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, types_without(name)).expect("the types");
        let mut resolved = btf::resolve(&path).expect("types");
        let absent: Vec<_> = resolved.absent.iter().map(|(field, reason)| (*field, reason.as_str())).collect();
        assert_eq!(absent, [(gone, reason)]);
        let mut whole = whole.clone();
        for ((is, was), (field, ..)) in
            resolved.offsets.as_slice_mut().iter().zip(whole.offsets.as_slice_mut()).zip(Offsets::FIELDS)
        {
            assert_eq!(*is, if *field == gone { ABSENT } else { *was }, "{field}");
        }
    }
}
