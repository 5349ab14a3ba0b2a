"""The tests of our peers that cannot apply to us, each with its reason.

They are run all the same, and must fail: one that passes does not belong here. By peer, then by the
test's own name, on whatever loop.
"""

_POPEN = "replaces subprocess.Popen, which we do not call"
_PREEXEC = "preexec_fn is refused: between clone and exec no Python can run safely"
_FORK_EXEC = "replaces _posixsubprocess's fork_exec, which we do not call"
_WAITPID = "waits for the program itself, by waitpid(2): it is no child of ours"
_PIDFD_OPEN = "replaces os.pidfd_open or what calls it: our pidfd is there from the start on"
_NO_PIDFD = "wants no pidfd: each of our programs has one"
_RIGHT_STATUS = "wants 0 for a killed program where SIGCHLD is ignored: we know that it was killed"
_OUR_END = "wants trio's warning and Process.terminate: our run_process ends a program by its tree"
_TERMINAL = "has a terminal where a program has a pipe: what can be read is the end of its reader"
_REFUSED = f"{_PREEXEC}; then it leaves a terminal open, or waits for ever, as on asyncio's loop"
_TRACKER = "wants the pid of multiprocessing's own child: its tracker is a program of ours"
_UVLOOPS_OWN = "passes a parameter that only uvloop's own spawner knows, for its tests"

EXCEPTIONS: dict[str, dict[str, str]] = {
    "cpython": {
        "test_popen_error": _POPEN,
        "test_popen_error_with_stdin_pipe": _POPEN,
        "test_pause_reading": "replaces loop.connect_read_pipe, which we do not call",
    },
    "cpython's events": {},
    "cpython with our watcher": {},
    "cpython's loops": {
        "test_default_event_loop_policy_deprecation": "wants asyncio's own policy: ours is there",
    },
    "cpython's pipes": {
        "test_bidirectional_pty": _TERMINAL,
    },
    "subprocess": {
        "test_close_fds_after_preexec": _PREEXEC,
        "test_preexec": _PREEXEC,
        "test_preexec_errpipe_does_not_double_close_pipes": _PREEXEC,
        "test_preexec_exception": _PREEXEC,
        "test_preexec_fork_failure": _PREEXEC,
        "test_preexec_gc_module_failure": _PREEXEC,
        "test_surrogates_error_message": _PREEXEC,
        "test__use_vfork": _FORK_EXEC,
        "test_exception_errpipe_bad_data": _FORK_EXEC,
        "test_exception_errpipe_normal": _FORK_EXEC,
        "test_pidfd_open_notification_without_immediate_reap": _PIDFD_OPEN,
        "test_pidfd_open_race": _PIDFD_OPEN,
        "test_wait_pidfd_open_error": _PIDFD_OPEN,
        "test_send_signal_race": _WAITPID,
        "test_stopped": _WAITPID,
    },
    "futures": {},
    "multiprocessing": {
        "test_resource_tracker_sigint": _TRACKER,
        "test_resource_tracker_sigkill": _TRACKER,
        "test_resource_tracker_sigterm": _TRACKER,
        "test_set_get": "wants the context's class to be named after its method",
    },
    "shellous": {
        'await sh.pty("echo", "in a pty")': _PREEXEC,
        'await ls("README.md", "CHANGELOG.md")': _PREEXEC,
        "test_pipe_iter_pty": _REFUSED,
        "test_pty_manual_ls": _REFUSED,
        "test_pty_redirect_stdout_streamwriter": _REFUSED,
        "test_audit_posix_spawn": "wants the audit event of os.posix_spawn, which we do not call",
    },
    "uvloop": {
        "test_process_preexec_fn_1": _PREEXEC,
        "test_process_preexec_fn_2": _PREEXEC,
        "test_process_delayed_stdio__paused__no_stdin": _UVLOOPS_OWN,
        "test_process_delayed_stdio__paused__stdin_pipe": _UVLOOPS_OWN,
    },
    "anyio": {},
    "trio": {
        "test_basic_no_pidfd": _NO_PIDFD,
        "test_errors": "is about trio's words for options that it does not take",
        "test_run_process_internal_error": "replaces trio's open_process, which we do not call",
        "test_wait_reapable_fails": _RIGHT_STATUS,
        "test_wait_reapable_fails_no_pidfd": _RIGHT_STATUS,
        "test_warn_on_cancel_SIGKILL_escalation": _OUR_END,
        "test_warn_on_failed_cancel_terminate": _OUR_END,
    },
}
