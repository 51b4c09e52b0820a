"""What is said about a recording that wants to be a voice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parley_speech.voices.reference import ReferenceReport, assess, assess_file
from speech.voice.recordings import HZ, noisy, saved, speech


def _fatal(report: ReferenceReport) -> str:
    return "\n".join(str(finding) for finding in report.findings if finding.fatal)


def test_clean_read_speech_is_fit() -> None:
    report = assess(speech(8.0), HZ)
    assert report.usable
    assert report.findings == ()
    assert report.duration_s == pytest.approx(8.0)
    assert 4.0 < report.speech_s < 8.0
    assert -25 < report.level_dbfs < -15


@pytest.mark.parametrize("seconds", [1.0, 2.9])
def test_too_short(seconds: float) -> None:
    report = assess(speech(seconds), HZ)
    assert not report.usable
    assert f"it lasts {seconds} s, expected 3 to 30 s" in _fatal(report)
    assert "record a longer passage" in _fatal(report)


def test_too_long() -> None:
    report = assess(speech(31.0), HZ)
    assert not report.usable
    assert "cut out 5 to 15 s" in _fatal(report)


def test_a_length_that_could_be_better_is_only_remarked() -> None:
    for seconds in (3.5, 25.0):
        report = assess(speech(seconds), HZ)
        assert report.usable
        assert [str(f) for f in report.findings] == [f"it lasts {seconds} s: 5 to 15 s are best"]


def test_telephone_rate_is_refused_whatever_it_is_raised_to_later() -> None:
    report = assess(speech(8.0)[::3], 8000)
    assert not report.usable
    assert "the rate is 8000 Hz, expected 16000 Hz or more" in _fatal(report)


def test_clipping_is_counted_by_places() -> None:
    loud = np.clip(speech(8.0).astype(np.int32) * 12, -32768, 32767).astype(np.int16)
    report = assess(loud, HZ)
    assert not report.usable
    assert f"clipped in {report.clipped} places" in _fatal(report)
    one = speech(8.0)
    one[1000:1004] = 32767
    one[2000:2002] = -32768  # two samples are a peak
    report = assess(one, HZ)
    assert report.clipped == 1
    assert report.usable
    assert any("clipped" in finding.what for finding in report.findings)


def test_clipping_of_one_channel_is_seen() -> None:
    left = speech(8.0)
    right = np.clip(left.astype(np.int32) * 12, -32768, 32767).astype(np.int16)
    assert not assess(np.stack([left // 4, right], axis=1), HZ).usable


@pytest.mark.parametrize(("snr_db", "usable"), [(30, True), (20, True), (12, False), (5, False)])
def test_noise(snr_db: int, usable: bool) -> None:
    report = assess(noisy(speech(8.0), snr_db), HZ)
    assert report.snr_db == pytest.approx(snr_db, abs=5)
    assert report.usable is usable
    assert usable or "above the noise" in _fatal(report)


def test_silence_and_faint_speech() -> None:
    assert "dBFS: record louder" in _fatal(assess(np.zeros(8 * HZ, np.int16), HZ))
    assert not assess((speech(8.0) // 64).astype(np.int16), HZ).usable
    faint = assess((speech(8.0) // 5).astype(np.int16), HZ)
    assert faint.usable
    assert any("record louder" in finding.mend for finding in faint.findings)


def test_mostly_pause() -> None:
    pcm = speech(12.0)
    pcm[2 * HZ : 10 * HZ] = 0
    assert "is speech, expected 50% or more" in _fatal(assess(pcm, HZ))


def test_silent_edges_are_remarked() -> None:
    pcm = np.concatenate((np.zeros(HZ, np.int16), speech(8.0)))
    report = assess(pcm, HZ)
    assert report.usable
    (finding,) = report.findings
    assert finding.what.startswith("its beginning is silent for 10")


def test_files(tmp_path: Path) -> None:
    report = assess_file(saved(tmp_path, speech(8.0), HZ, "it.flac"))
    assert report.sample_rate_hz == HZ
    (tmp_path / "text.wav").write_text("not sound")
    with pytest.raises(ValueError, match="is not audio that can be read"):
        assess_file(tmp_path / "text.wav")
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        assess_file(tmp_path / "gone.wav")
