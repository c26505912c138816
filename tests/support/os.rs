//! What the operating system gives and takes: a small disk, rights, descriptors, memory, time on the processor.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(unreachable_pub, reason = "compiled into each test binary, whose root is not this module's parent alone")]
#![allow(clippy::missing_panics_doc, reason = "a test helper's panic is the test's failure")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::support::{Folder, Running};

/// A file system of a few MiB, in a mount namespace that lives as long as this: the machine's own mounts stay as they are.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Child,
    path: PathBuf,
}

impl SmallDisk {
    /// `None`, with the reason printed, where the system allows no such thing (a container without user namespaces).
    pub fn mount(folder: &Folder, size: &str) -> Option<Self> {
        let path = folder.path("disk");
        fs::create_dir(&path).expect("a folder to mount on");
        let script = "mount -t tmpfs -o size=$1,mode=700 tmpfs \"$2\" && echo mounted && read _";
        let holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", size])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut holder = match holder {
            Ok(holder) => holder,
            Err(error) => return skip(&format!("unshare can't be run: {error}")),
        };
        let mut said = String::new();
        BufReader::new(holder.stdout.as_mut().expect("piped")).read_line(&mut said).expect("a line or an end");
        if said.trim() != "mounted" {
            let why = holder.wait_with_output().expect("it has ended").stderr;
            return skip(&format!("no tmpfs can be mounted: {}", String::from_utf8_lossy(&why).trim()));
        }
        Some(Self { holder, path })
    }

    /// A file on it, as the programs see it that are [launched](Self::launcher) there.
    pub fn inside(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The same file, as the test sees it.
    pub fn outside(&self, name: &str) -> PathBuf {
        let path = self.path.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(path).join(name)
    }

    /// For [`Program::launched_by`](crate::support::Program::launched_by). Paths must be absolute.
    pub fn launcher(&self) -> Vec<String> {
        let pid = self.holder.id().to_string();
        ["nsenter", "--target", &*pid, "--user", "--mount", "--preserve-credentials", "--"].map(str::to_owned).into()
    }

    /// Takes every byte that is left.
    pub fn fill(&self) {
        let mut ballast = fs::File::create(self.outside("ballast")).expect("an empty file costs nothing");
        for chunk in [1 << 16, 1 << 12] {
            while ballast.write_all(&vec![0x5a; chunk]).is_ok() {}
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        fs::remove_file(self.outside("ballast")).expect("the ballast");
    }

    pub fn make_read_only(&self) {
        let launcher = self.launcher();
        let done = Command::new(&launcher[0])
            .args(&launcher[1..])
            .args(["mount", "-o", "remount,ro"])
            .arg(&self.path)
            .status()
            .expect("nsenter");
        assert!(done.success(), "not remounted");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[expect(clippy::print_stdout, reason = "why a test was skipped is for whoever reads its output")]
fn skip<T>(why: &str) -> Option<T> {
    println!("SKIPPED: {why}");
    None
}

/// Starts a program without the rights that let root ignore permission bits; nothing where the tests don't run as root.
pub fn without_privileges() -> Vec<String> {
    if rustix::process::geteuid().is_root() {
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"].map(str::to_owned).into()
    } else {
        vec![]
    }
}

/// How many descriptors the program has open.
pub fn descriptors(program: &Running) -> u64 {
    fs::read_dir(format!("/proc/{}/fd", program.pid())).expect("its descriptors").count() as u64
}

/// From now on the program may have this many descriptors open. What is open stays so. Gives the limit there was.
pub fn limit_descriptors(program: &Running, limit: u64) -> u64 {
    let pid = i32::try_from(program.pid()).ok().and_then(Pid::from_raw).expect("a process");
    // The upper limit is what the test itself was started with: only root may raise it.
    let new = Rlimit { current: Some(limit), maximum: getrlimit(Resource::Nofile).maximum };
    prlimit(Some(pid), Resource::Nofile, new).expect("its owner may").current.unwrap_or(u64::MAX)
}

/// How much memory the program holds at present, in KiB.
pub fn memory_kib(program: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// How long the program has been on a processor so far.
pub fn processor_time(program: &Running) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", program.pid())).expect("its stat");
    // Behind the name, which may hold anything: the 12th and 13th fields are utime and stime.
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name in parentheses") + 2..].split(' ').collect();
    let ticks: u64 = [11, 12].map(|at| fields[at].parse::<u64>().expect("ticks")).iter().sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}
