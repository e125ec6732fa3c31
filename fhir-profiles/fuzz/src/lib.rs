//! What the targets have in common.

/// Of a thread of the server.
const STACK: libc::rlim_t = 2 << 20;
/// For the handler of libFuzzer, which writes the input down.
const SPARE: usize = 256 << 10;

/// Leaves a target as much stack as a thread of the server has. Where that does not suffice, the
/// input is kept like that of any other crash.
///
/// # Panics
/// The system refuses it.
pub fn stack_of_a_server() {
    let spare = vec![0_u8; SPARE].leak();
    let alternative = libc::stack_t { ss_sp: spare.as_mut_ptr().cast(), ss_flags: 0, ss_size: SPARE };
    // SAFETY: the memory is never given back, and the structures of C may be all zeros.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_STACK, &raw mut limit), 0);
        // libFuzzer runs a target on the main thread, whose stack grows up to this limit.
        limit.rlim_cur = STACK.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_STACK, &raw const limit), 0);
        assert_eq!(libc::sigaltstack(&raw const alternative, std::ptr::null_mut()), 0);
        // libFuzzer keeps the flag when it puts its own handler there.
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        action.sa_flags = libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut()), 0);
    }
}
