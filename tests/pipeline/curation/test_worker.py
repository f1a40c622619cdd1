"""A worker never raises for a video, and measures nothing twice."""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from models.budget import Budget, Cost, Usage
from models.errors import BudgetError, EndpointError, MediaError, TransientError
from models.ledger import Ledger
from pipeline.curation import worker
from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from pipeline.curation.crashes import Watch
from pipeline.curation.results import memo_key
from pipeline.curation.worker import DIED_TWICE, StageEvent, crashed
from pipeline.platform.memo import Memo
from stages.base import BadInputError, Pool, Stage, Workspace, field_json, field_schema
from stages.reasons import Kind, Reason
from stages.records import Clip, Drop, Transcript, Video
from stages.view import file_of, identity_of
from tests.support.records import file_facts
from tests.support.worker import VIDEO, Bench

AT = r"{} at test_worker.py:\d+ in measure: {}"


class Fake(Stage):
    """Counts what is asked of it; raises what it is given, one after the other."""

    pool: ClassVar[Pool] = "media"

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.opened = self.measured = self.closed = 0

    def open(self, workspace: Workspace) -> None:
        super().open(workspace)
        self.opened += 1

    def close(self) -> None:
        self.closed += 1

    def measure(self, video: Video) -> Video:
        assert self.opened == 1
        self.measured += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.result(video)

    def result(self, video: Video) -> Video:
        return video


class Listen(Fake):
    """Hears the words that it is made with, and wants a number of letters."""

    name: ClassVar[str] = "listen"
    reads = ("content_id",)
    writes = ("transcript",)

    def __init__(self, *errors: Exception, words: str = "stir", letters: int = 0) -> None:
        super().__init__(*errors)
        self.words, self.letters = words, letters

    def measures_with(self) -> object:
        return self.words

    def result(self, video: Video) -> Video:
        said = Transcript(language="en", sentences=[], model=self.words.lower())
        return video.with_results(transcript=said)

    def judge(self, video: Video) -> Video:
        assert video.transcript is not None
        if len(video.transcript.model) < self.letters:
            return video.reject(self.name, Reason.NO_SPEECH, video.transcript.model)
        return video


class Cut(Fake):
    """Makes a clip of every letter and drops the vowels."""

    name: ClassVar[str] = "cut"
    reads = ("transcript",)
    writes = ("clips",)

    def result(self, video: Video) -> Video:
        assert video.transcript is not None
        clips = [
            Clip(clip_id=letter, clip_index=at, start_s=at, end_s=at + 1, num_shots=1,
                 sharpness=0.1 + 0.2, exposure=0.5, motion=0.5)
            for at, letter in enumerate(video.transcript.model)
        ]  # fmt: skip
        return video.with_results(clips=clips)

    def judge(self, video: Video) -> Video:
        vowels = [clip.clip_id for clip in video.kept_clips if clip.clip_id in "aeiou"]
        return video.drop(
            *(
                Drop(kind=Kind.CLIP, stage=self.name, reason=Reason.STILL, detail="", item_id=letter)
                for letter in vowels
            )
        )


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(worker, "FIRST_RETRY_WAIT_S", 0.0)
    yield Bench(tmp_path)


def test_once_the_budget_is_spent_only_what_is_remembered_is_done(bench: Bench) -> None:
    ledger = Ledger(bench.folder / "ledger", Budget(max_requests=0))
    bench.workspace = replace(bench.workspace, ledger=ledger)
    done, _ = bench.run(Listen(), Cut())
    with pytest.raises(BudgetError):
        ledger.sent("refine", "m", Cost(requests=1))
    again, events = bench.run(Listen(), Cut())
    assert again == done and [told.outcome for told in events] == ["remembered"] * 2
    stopped, (told,) = bench.run(Listen(words="fry"), Cut())
    assert stopped.rejected is not None and told.outcome == "failed"
    assert stopped.rejected.reason is Reason.BUDGET_SPENT
    assert "not reached before the budget was spent" in stopped.rejected.detail
    assert "budget.max_requests, which is 0" in stopped.rejected.detail


def test_what_a_stage_asked_of_models_is_told(bench: Bench) -> None:
    ledger = Ledger(bench.folder / "ledger")
    bench.workspace = replace(bench.workspace, ledger=ledger)

    class Ask(Listen):
        def result(self, video: Video) -> Video:
            for _ in range(2):
                number = ledger.sent("listen", "m", Cost(requests=1, tokens=9, usd=0.5))
                assert number is not None
                ledger.ended(number, "answered", Usage(input_tokens=3, output_tokens=1, usd=0.25))
            return super().result(video)

    _, events = bench.run(Ask(), Cut())
    assert [told.asked for told in events] == [Cost(requests=2, tokens=8, usd=0.5), Cost()]


def event(stage: str, outcome: worker.Outcome, retries: int = 0, **drops: int) -> StageEvent:
    ends = [label.removeprefix("file__") for label in drops if label.startswith("file__")]
    return StageEvent(
        stage=stage,
        outcome=outcome,
        seconds=0.0,
        video=VIDEO.video_id,
        reason="".join(ends),
        drops={label.replace("__", "/"): number for label, number in drops.items()},
        retries=retries,
    )


def test_a_video_goes_through_all_stages_and_each_tells_of_it(bench: Bench) -> None:
    listen, cut = Listen(words="Sauteed"), Cut()
    done, events = bench.run(listen, cut)
    assert events == [event("listen", "measured"), event("cut", "measured", clip__still=4)]
    assert [clip.clip_id for clip in done.kept_clips] == ["s", "t", "d"]
    assert done.clips[0].sharpness == 0.1 + 0.2
    assert (listen.opened, listen.closed, cut.opened, cut.closed) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("errors", "reason", "detail", "outcome", "tries"),
    [
        ([BadInputError(Reason.TRUNCATED, "ends early")], Reason.TRUNCATED, "ends early", "rejected", 1),
        ([TransientError("busy")] * 3, Reason.RETRIES_EXHAUSTED, "busy", "failed", 3),
        ([EndpointError("wrong key")], Reason.ENDPOINT_REFUSED, "wrong key", "failed", 1),
        ([BudgetError("no money")], Reason.BUDGET_SPENT, "no money", "failed", 1),
        (
            [TransientError("busy"), BadInputError(Reason.CORRUPT, "bad")],
            Reason.CORRUPT, "bad", "rejected", 2,
        ),
        ([ZeroDivisionError("0")], Reason.BUG, AT.format("ZeroDivisionError", "0"), "failed", 1),
        ([MediaError("leaps", "bad_timestamps")], Reason.BAD_TIMESTAMPS, "leaps", "rejected", 1),
        ([AssertionError()], Reason.BUG, AT.format("AssertionError", ""), "failed", 1),
        ([ValueError("x" * 9000)], Reason.BUG, AT.format("ValueError", "x+"), "failed", 1),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_sorted_and_ends_the_video(
    bench: Bench,
    errors: list[Exception],
    reason: Reason,
    detail: str,
    outcome: worker.Outcome,
    tries: int,
) -> None:
    listen, cut = Listen(*errors), Cut()
    done, events = bench.run(listen, cut)
    (drop,) = done.drops
    assert (drop.kind, drop.stage, drop.reason) == (Kind.FILE, "listen", reason)
    assert re.fullmatch(detail, drop.detail) and len(drop.detail) <= 500
    assert bool(bench.tracebacks) == (reason is Reason.BUG)
    assert events == [event("listen", outcome, tries - 1, **{f"file__{reason}": 1})]
    assert (listen.measured, listen.closed) == (tries, 1)
    assert (cut.opened, cut.measured, cut.closed) == (0, 0, 0)


def test_a_transient_failure_that_passes_leaves_no_trace_but_the_count_of_retries(bench: Bench) -> None:
    calm, _ = bench.run(Listen(words="calm"))
    listen = Listen(TransientError("busy"), TransientError("busy"), words="Calm")
    done, events = bench.run(listen)
    assert (done, events) == (calm, [event("listen", "measured", 2)])
    assert listen.measured == 3


def test_without_retries_the_first_failure_ends_it(bench: Bench) -> None:
    listen = Listen(TransientError("busy"))
    done, _ = bench.run(listen, retries=0)
    assert done.rejected is not None
    assert (done.rejected.reason, listen.measured) == (Reason.RETRIES_EXHAUSTED, 1)


@pytest.mark.parametrize("where", ["open", "judge"])
def test_a_bug_outside_of_measuring_fails_the_video_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def broken(self: Listen, _: object) -> Video:
        raise RuntimeError(where)

    monkeypatch.setattr(Listen, where, broken)
    done, events = bench.run(Listen(), Cut())
    assert done.rejected is not None
    assert done.rejected.reason is Reason.BUG
    assert re.fullmatch(rf"RuntimeError at test_worker.py:\d+ in broken: {where}", done.rejected.detail)
    assert events == [event("listen", "failed", file__bug=1)]


def test_a_failure_is_not_remembered(bench: Bench) -> None:
    bench.run(Listen(ValueError("today")))
    done, events = bench.run(Listen())
    assert (done.drops, events) == ([], [event("listen", "measured")])


def test_a_rejected_video_passes_through_untouched(bench: Bench) -> None:
    gone = VIDEO.reject("ingest", Reason.UNREADABLE, "gone")
    assert bench.run(Listen(), Cut(), video=gone) == (gone, [])


def test_the_second_pass_measures_nothing_and_loads_nothing(bench: Bench) -> None:
    first, _ = bench.run(Listen(words="soup"), Cut())
    listen, cut = Listen(words="soup"), Cut()
    second, events = bench.run(listen, cut)
    assert second == first
    assert events == [event("listen", "remembered"), event("cut", "remembered", clip__still=2)]
    assert (listen.opened, listen.closed, cut.opened, cut.closed) == (0, 0, 0, 0)


def test_the_same_content_under_another_name_is_remembered(bench: Bench) -> None:
    bench.run(Listen())
    moved = replace(VIDEO, uri="file:///elsewhere.mp4")
    done, events = bench.run(Listen(), video=moved)
    assert (done.uri, events) == (moved.uri, [event("listen", "remembered")])
    _, events = bench.run(Listen(), video=replace(VIDEO, content_id="b" * 64))
    assert events == [event("listen", "measured")]


def test_a_changed_threshold_only_judges_again(bench: Bench) -> None:
    bench.run(Listen(words="soup", letters=5), Cut())
    done, events = bench.run(Listen(words="soup", letters=4), Cut())
    assert done.rejected is None
    assert events == [event("listen", "remembered"), event("cut", "measured", clip__still=2)]
    done, events = bench.run(Listen(words="soup", letters=5), Cut())
    assert done.drops == [
        Drop(kind=Kind.FILE, stage="listen", reason=Reason.NO_SPEECH, detail="soup")
    ]  # fmt: skip
    assert events == [event("listen", "rejected", file__no_speech=1)]


@pytest.mark.parametrize(("words", "then"), [("broth", "measured"), ("SOUP", "remembered")])
def test_a_changed_measurement_is_made_anew_and_what_reads_its_result_with_it(
    bench: Bench, words: str, then: worker.Outcome
) -> None:
    """``SOUP`` is another configuration with the same result: what follows is remembered."""
    bench.run(Listen(words="soup"), Cut())
    done, events = bench.run(Listen(words=words), Cut())
    assert [(told.stage, told.outcome) for told in events] == [("listen", "measured"), ("cut", then)]
    assert "".join(clip.clip_id for clip in done.clips) == words.lower()


def test_the_deadline_is_that_of_each_stage(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(Watch, "restart", lambda watch: started.append("restart"))
    chain = worker.ChainWorker(
        [Listen(), Cut()], packer=None, workspace=bench.workspace, memo=Memo(bench.folder / "memo"),
        retries=0, watch=Watch(bench.folder, [], 60.0),
    )  # fmt: skip
    list(chain.process([VIDEO], lambda event: started.append(event.stage)))
    chain.close()
    assert started == ["restart", "restart", "listen", "restart", "cut"]


def test_a_raised_version_measures_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run(Listen())
    monkeypatch.setattr(Listen, "version", 2)
    assert bench.run(Listen())[1] == [event("listen", "measured")]


def test_the_key_holds_what_the_stage_reads_and_nothing_else() -> None:
    key = memo_key(Listen(), VIDEO)
    assert key.startswith("listen-") and " " not in key
    assert memo_key(Listen(), replace(VIDEO, facts=file_facts(1.0))) == key
    assert memo_key(Listen(words="stew"), VIDEO) != key


def test_frames_that_were_deleted_are_packed_again_for_whom_needs_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Scan(Fake):
        name: ClassVar[str] = "scan"

        def measure(self, video: Video) -> Video:
            self.measured += 1
            path = self.workspace.frames_path(video)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"frames")
            return video

    for needs, packed in ((False, 0), (True, 1), (True, 0)):
        monkeypatch.setattr(Cut, "needs_frames", needs)
        monkeypatch.setattr(Cut, "version", Cut.version + 1)
        scan = Scan()
        done, _ = bench.run(Listen(), Cut(), packer=scan)
        assert (done.rejected, scan.measured) == (None, packed)


def test_a_video_whose_worker_died_twice_counts_as_our_failure() -> None:
    drop = crashed(VIDEO, DIED_TWICE).rejected
    assert drop is not None
    assert (drop.kind, drop.stage, drop.reason) == (Kind.FILE, "run", Reason.WORKER_CRASHED)


class Careless(Listen):
    """Reads, writes or makes what it should not."""

    def __init__(self, deed: Callable[[Video], Video], **declared: object) -> None:
        super().__init__()
        self.deed, self.words = deed, str(declared)
        for name, value in declared.items():
            setattr(self, name, value)

    def result(self, video: Video) -> Video:
        return self.deed(video)


SAID = Transcript(language="en", sentences=[], model="m")


@pytest.mark.parametrize(
    ("deed", "message"),
    [
        (lambda video: video.with_results(transcript=video.transcript), "reads 'transcript'"),
        (
            lambda video: video.with_results(transcript=SAID) if video.facts is None else video,
            "reads 'facts'",
        ),
        (lambda video: video.with_results(transcript=video.kept_clips), "reads 'kept_clips'"),
        (lambda video: replace(video, transcript=SAID), "reads 'uri'.*with_results"),
        (lambda video: video.with_results(transcript=SAID, clips=[]), "writes 'clips', which its `writes`"),
        (lambda video: video, "does not write 'transcript'"),
        (lambda video: VIDEO, "must return video.with_results"),
        (lambda video: video.with_results(transcript=replace(SAID, model=file_of(video))), "reads_file"),
        (
            lambda video: video.with_results(transcript=replace(SAID, removed_words=math.nan)),
            "infinity or NaN in transcript",
        ),
    ],
)
def test_an_undeclared_read_or_write_fails_and_names_the_field(
    bench: Bench, deed: Callable[[Video], Video], message: str
) -> None:
    done, _ = bench.run(Careless(deed))
    assert done.rejected is not None and done.rejected.reason is Reason.BUG
    assert re.search(message, done.rejected.detail), done.rejected.detail
    assert "ContractError" in bench.tracebacks[0]


def test_a_rejection_of_the_content_is_remembered(bench: Bench) -> None:
    broken = BadInputError(Reason.TRUNCATED, "ends early")
    first, _ = bench.run(Listen(broken))
    listen = Listen()
    again, events = bench.run(listen)
    assert again == first and listen.measured == 0
    assert events == [event("listen", "rejected", file__truncated=1)]
    monkey = Listen(words="other settings")
    assert bench.run(monkey)[0].rejected is None


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_file_that_is_replaced_is_rejected_and_its_results_are_not_stored(
    bench: Bench, tmp_path: Path, when: str
) -> None:
    path = tmp_path / "soup.mp4"
    path.write_bytes(b"old")
    video = replace(VIDEO, uri=path.as_uri(), identity=identity_of(path))

    def deed(view: Video) -> Video:
        file_of(view).write_bytes(b"new")
        return view.with_results(transcript=SAID)

    if when == "before":
        path.write_bytes(b"new")
    done, _ = bench.run(Careless(deed, reads_file=True), video=video)
    assert done.rejected is not None and done.rejected.reason is Reason.CHANGED
    fresh = replace(VIDEO, uri=path.as_uri(), identity=identity_of(path))
    _, events = bench.run(
        Careless(lambda view: view.with_results(transcript=SAID), reads_file=True), video=fresh
    )
    assert events == [event("listen", "measured")], "nothing was stored for the old content"


def test_a_disk_that_is_full_or_fails_is_no_bug(bench: Bench) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    broken = OSError(errno.EIO, "Input/output error")
    done, _ = bench.run(Listen(full))
    assert done.rejected is not None and done.rejected.reason is Reason.STORE_FAILED
    done, events = bench.run(Listen(broken))
    assert (done.rejected, events) == (None, [event("listen", "measured", 1)])
    done, _ = bench.run(Listen(*[broken] * 3, words="again"))
    assert done.rejected is not None and done.rejected.reason is Reason.RETRIES_EXHAUSTED


def test_a_record_of_another_schema_is_a_miss(bench: Bench) -> None:
    memo = Memo(bench.folder / "memo")
    memo.put(memo_key(Listen(), VIDEO), '{"transcript": {"spoken": 1}}')
    memo.close()
    done, events = bench.run(Listen())
    assert (done.rejected, events) == (None, [event("listen", "measured")])


def test_documentation_of_the_records_is_no_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Listen().signature
    monkeypatch.setattr(Transcript, "__doc__", "The same in other words.")
    field_json.cache_clear()
    field_schema.cache_clear()
    assert "other words" in str(field_json("transcript").json_schema())
    assert Listen().signature == key
    field_json.cache_clear()
    field_schema.cache_clear()


def test_frames_are_part_of_the_key_of_what_reads_them() -> None:
    def key(**scan: object) -> dict[str, str]:
        chain = build_stages(Config.model_validate({"scan": scan}))
        return {stage.name: stage.signature for stage in chain}

    changed = {name for name, value in key(jpeg_quality=5).items() if value != key()[name]}
    assert changed == {"scan", "watermark", "caption"}
    assert key(max_missing_share=0.5) == key(), "a threshold is no part of it"
