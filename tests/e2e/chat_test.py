"""`quire chat`: over a pipe and on a terminal; what Ctrl-C ends and what it does not."""

import json
import os
import re
import select
import subprocess
import time

from client_runs import ANSWER, QUESTION, SECONDS, ask, run, running_sequences, server, \
    start_on_terminal, wait_until


class Terminal:
    """A program on a terminal: type, and wait for what it shows."""

    def __init__(self, *words):
        self.process, self.fd = start_on_terminal(words)
        self.shown = b""

    def shows(self, pattern, seconds):
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.shown, re.DOTALL)):
            if time.monotonic() > deadline:
                return False
            if select.select([self.fd], [], [], 0.1)[0]:
                self.shown += self.read()
        self.shown = self.shown[found.end() :]
        return True

    def expect(self, pattern):
        assert self.shows(pattern, SECONDS), self.shown.decode(errors="replace")

    def read(self):
        try:
            return os.read(self.fd, 65536)
        except OSError:  # EIO: it has ended
            status = self.process.wait(SECONDS)
            raise AssertionError(f"ended with {status} after {self.shown}") from None

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        status = self.process.wait(SECONDS)
        os.close(self.fd)
        return status


def test_a_conversation_over_a_pipe_remembers_what_was_said(ask):
    lines = f"/help\n{QUESTION}\nWhat did I ask?\n/clear\n{QUESTION}\n/exit\nnever asked\n"
    ran = ask("chat", "--temperature", "0", "--max-tokens", "40", given=lines.encode())
    answers = ran.text.splitlines()
    assert ran.status == 0 and answers[0] == ANSWER and answers[-1] == ANSWER
    assert "/clear forgets" in ran.err and "forgotten" in ran.err and "never" not in ran.text
    asked = ask("chat", "--json", "--temperature", "0", "-n", "8",
                given=f"{QUESTION}\n{QUESTION}\n".encode())
    prompts = [event["prompt_tokens"] for event in asked.events if event["event"] == "accepted"]
    assert len(prompts) == 2 and prompts[1] > prompts[0] + 10


def test_lines_that_cannot_be_answered_are_told_and_passed(ask):
    ran = ask("chat", "--temperature", "0", given=b"\xff\n" + QUESTION.encode() + b"\n")
    assert ran.status == 0 and "not UTF-8 at byte 0" in ran.err and ran.text.strip() == ANSWER
    wrong = ask("chat", "--system", "-", given=b"")
    assert wrong.status == 2 and "standard input" in wrong.err
    gone = ask("chat", "--server", "127.0.0.1:1", given=b"Hi\n")
    assert gone.status == 1 and "no server at" in gone.err


def test_a_conversation_that_outgrows_the_context_is_refused_or_cut(run, module_server, model):
    small = module_server("--max-context", "256", model=model)
    turn = ("word " * 90).strip() + "\n"
    words = ["chat", "--server", small.address, "--temperature", "0", "-n", "16"]
    refused = run(*words, given=(turn * 3).encode())
    assert refused.status == 0 and "tokens of context" in refused.err and "256" in refused.err
    cut = run(*words, "--truncate", "oldest", given=(turn * 3).encode())
    assert cut.status == 0 and "tokens of context" not in cut.err
    assert re.search(r"left out: the oldest [24] messages, \d+ tokens", cut.err)


def test_a_conversation_outlives_the_server_that_it_began_with(quire, module_server, tiny,
                                                                 tmp_path):
    """As after an hour of thinking, when the server has closed the connection."""
    address = f"unix:{tmp_path}/chat"
    words = [quire, "chat", "--server", address, "--json", "-q", "-n", "4"]

    def ask():
        chat.stdin.write(b"One, two\n")
        chat.stdin.flush()
        events = [json.loads(chat.stdout.readline())]
        while events[-1]["event"] != "finished":
            events.append(json.loads(chat.stdout.readline()))
        return events[0]["prompt_tokens"]

    first = module_server(listen=address, model=tiny["q4_0"])
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as chat:
        begun = ask()
        first.stop()
        second = module_server(listen=address, model=tiny["q4_0"])
        assert ask() > begun + 5  # with all that was said before
        second.stop()
        chat.communicate(b"Three\n", timeout=SECONDS)
        assert chat.returncode == 1


def test_an_answer_without_a_word_leaves_the_line_to_the_prompt(quire, module_server, tiny):
    running = module_server("--chat-format", "chatml", model=tiny["qwen2"])
    chat = Terminal(quire, "chat", "--server", running.address, "--temperature", "0", "-n", "8")
    chat.expect(b"> ")
    chat.type("72\n")  # to which it says nothing
    chat.expect(rb"(?s)reading .*(\x1b\[K|\n)> ")
    chat.type("\x04")
    assert chat.end() == 0


def test_lines_are_edited_by_characters_of_any_language_and_ctrl_z_stops(quire, server):
    shell = Terminal("env", "PS1=shell: ", "LC_ALL=C", "bash", "--norc", "--noediting", "-i")
    shell.expect(b"shell: ")
    shell.type(f"'{quire}' chat --server {server.address}\n")
    shell.expect(b"> ")
    shell.type("/cl\u00e9\u65e5\x7f\x7fear\n")
    shell.expect(b"forgotten")
    shell.expect(b"> ")
    shell.type("/clxyz")
    shell.expect(b"z")
    shell.type("\x1a")
    shell.expect(b"Stopped")
    shell.expect(b"shell: ")
    shell.type("fg\n")
    shell.expect(b"/clxyz")
    shell.type("\x7f\x7f\x7fear\n")
    shell.expect(b"forgotten")
    shell.expect(b"> ")
    shell.type("\x04")
    shell.expect(b"shell: ")
    shell.type("exit $?\n")
    assert shell.end() == 0


def test_ctrl_c_cancels_the_answer_and_the_line_but_not_the_program(quire, stubs, server):
    chat = Terminal(quire, "chat", "--server", server.address, "--temperature", "0")
    chat.expect(b"> ")
    chat.type("this is dropped\x03")
    chat.expect(b"> ")
    chat.type("Write a very long story about a ship and its many sailors.\n")
    chat.expect(rb"\w+ \w+ \w+ \w+")
    wait_until(lambda: running_sequences(stubs, server) > 0)
    chat.type("\x03")
    chat.expect(b"cancelled")
    wait_until(lambda: running_sequences(stubs, server) == 0)
    chat.expect(b"> ")
    chat.type("/clear\n")
    chat.expect(b"forgotten")
    chat.expect(b"> ")
    chat.type(f"What is the capital of Spain?\x15{QUESTION}\n")  # Ctrl-U: the line is edited
    chat.expect(ANSWER.encode())
    chat.expect(b"> ")
    chat.type("\x10")  # Ctrl-P: the line before
    chat.expect(QUESTION.encode())
    chat.type("\x15\x04")  # Ctrl-D on an empty line
    assert chat.end() == 0


def test_ctrl_c_as_the_terminal_changes_hands_does_not_end_the_program(quire, server):
    """Slowed down there: between an answer, the prompt, keys as such, Enter, and the next call."""
    slow = quire.parent / "tests" / "e2e" / "slow_terminal.so"
    assert slow.exists()
    words = [quire, "chat", "--server", server.address, "--temperature", "0"]
    chat = Terminal("env", f"LD_PRELOAD={slow}", *words)
    for i in range(20):
        chat.expect(b"> ")
        time.sleep(0.013 * i)  # each time at another moment: any is right
        chat.type("\x03")
    chat.expect(b"> ")
    for i in range(8):  # behind Enter; a terminal may drop the line that was typed before it
        chat.type("/clear\n")
        time.sleep(0.02 * i)
        chat.type("\x03")
        time.sleep(0.5)  # the next one finds a prompt, if it is quick
    while not chat.shows(b"forgotten.*> ", 2):
        chat.type("\x15/clear\n")
    chat.type("\x15/exit\n")
    assert chat.end() == 0
