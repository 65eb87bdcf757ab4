"""What the handlers of speech packages read out of file names and tables."""

import re

import pytest

from research.data.corpora import noise
from research.data.corpora.speech import NOT_SPEECH, PACKAGES, labels

NAMED = {package.name: package for package in [*PACKAGES, *noise.PACKAGES]}


def clips_of(name, files):
    """Clips of a package, from those files that it asks for."""
    wanted = re.compile(NAMED[name].wanted)
    return sorted(
        NAMED[name].clips(name, {path: data for path, data in files.items() if wanted.search(path)}),
        key=lambda clip: clip.key,
    )


def test_labels_end_where_the_next_begins():
    text = "separator ;\nnfields 1\n#\n0.10000 125 pau\n0.25000 125 a\n0.30000 125 k\n\n"
    assert labels(text) == [(0.0, 0.1, "pau"), (0.1, 0.25, "a"), (0.25, 0.3, "k")]


def test_festvox_sentences_have_text_and_phones():
    base = "usr/share/festival/voices/russian/msu_ru_nsh_clunits/"
    files = {
        f"{base}etc/txt.done.data": '( ru_0001 "Зв+ук" )\n( ru_0002 "Он сказал \\"да\\"." )\n'.encode(),
        f"{base}lab/ru_0001.lab": b"#\n0.5 125 v\n",
        f"{base}lab/ru_0002.lab": b"#\n0.7 125 o\n",
        f"{base}wav/ru_0001.wav": b"one",
        f"{base}wav/ru_0002.wav": b"two",
        f"{base}mcep/ru_0001.mcep": b"no",
    }
    one, two = clips_of("festvox-ru", files)
    assert (one.key, one.data, one.text, one.phones) == ("ru_0001", b"one", "Звук", [(0.0, 0.5, "v")])
    assert (two.lang, two.speaker, two.kind) == ("ru", "festvox-ru-nsh", "sentence")


def test_dialogues_of_a_game_find_their_line_and_speaker():
    sound, script = "usr/share/games/fillets-ng/sound", "usr/share/games/fillets-ng/script"
    line = 'dialogId("{}", "font_{}", "English")\ndialogStr("{}")\n'
    files = {
        f"{script}/cave/dialogs_cs.lua": (
            line.format("a", "big", r"Řekl \"ne\": C:\\x.") + line.format("b", "small", "B")
        ).encode(),
        f"{script}/share/dialogs_cs.lua": line.format("c", "big", "C").encode(),
        f"{script}/cave/dialogs_nl.lua": line.format("a", "big", "Nee").encode(),
        f"{sound}/cave/cs/a.ogg": b"1",
        f"{sound}/cave/cs/c.ogg": b"2",
        f"{sound}/cave/cs/d.ogg": b"3",
        f"{sound}/cave/nl/a.ogg": b"4",
        f"{sound}/music/cs/x.ogg": b"5",
    }
    found = [(clip.word, clip.speaker, clip.text) for clip in clips_of("fillets-ng-data-cs", files)]
    assert found == [
        ("cave/a", "fillets-cs-big", 'Řekl "ne": C:\\x.'),
        ("cave/c", "fillets-cs-big", "C"),
        ("cave/d", "fillets-cs-unknown", ""),
    ]
    assert [clip.text for clip in clips_of("fillets-ng-data-nl", files)] == ["Nee"]


def test_names_of_things_in_the_language_that_is_heard():
    stamps = "usr/share/tuxpaint/stamps/animals/frog"
    files = {
        f"{stamps}.txt": b"A frog.\nes.utf8=Una rana.\npt_BR.utf8=Um sapo.\n",
        f"{stamps}_desc.ogg": b"1",
        f"{stamps}_desc_es.ogg": b"2",
        f"{stamps}_desc_pt_BR.ogg": b"3",
        f"{stamps}_desc_fr.ogg": b"4",
        f"{stamps}.ogg": b"croak",
    }
    found = {(clip.speaker, clip.lang, clip.text) for clip in clips_of("tuxpaint-stamps-default", files)}
    assert found == {
        ("tuxpaint-en", "en", "A frog."),
        ("tuxpaint-es", "es", "Una rana."),
        ("tuxpaint-pt_BR", "pt", "Um sapo."),
        ("tuxpaint-fr", "fr", ""),
    }


def test_letters_syllables_and_things():
    files = {
        "usr/share/klettres/en_GB/sounds.xml": b'<sound name="A&amp;B" file="en_GB/alpha/a-01.ogg" />',
        "usr/share/klettres/en_GB/alpha/a-01.ogg": b"1",
        "usr/share/ktuberling/sounds/sr/eye.opus": b"2",
        "usr/share/ktuberling/sounds/sr@latin/eye.opus": b"3",
        "usr/share/gcin-voice/ogg/ㄅㄚ2/3.ogg": b"4",
    }
    (letter,) = clips_of("klettres-data", files)
    assert (letter.key, letter.lang, letter.kind, letter.text) == ("en_GB/alpha/a-01", "en", "alpha", "A&B")
    (thing,) = clips_of("ktuberling-data", files)
    assert (thing.lang, thing.word) == ("sr", "eye")
    (syllable,) = clips_of("gcin-voice", files)
    assert (syllable.lang, syllable.speaker, syllable.text) == ("cmn", "gcin-3", "ㄅㄚ2")


@pytest.mark.parametrize(
    "name", ["silence/1", "beep", "beeperr", "ascending-2tone", "confbridge-leave", "tt-monkeys"]
)
def test_tones_and_silence_are_no_speech(name):
    assert NOT_SPEECH.search(f"usr/share/asterisk/sounds/it_IT_m_Carlo/{name}.g722")


@pytest.mark.parametrize(
    "name", ["at-tone-time-exactly", "confbridge-leave-in", "tt-monkeysintro", "tt-weasels"]
)
def test_prompts_that_speak_of_tones_are_speech(name):
    assert not NOT_SPEECH.search(f"usr/share/asterisk/sounds/it_IT_m_Carlo/{name}.g722")


def test_noise_has_a_kind():
    games, moh = "usr/share/games", "usr/share/asterisk/moh"
    files = {
        f"{games}/lincity-ng/sounds/Market1.wav": b"1",
        f"{games}/lincity-ng/sounds/Click.wav": b"2",
        f"{games}/lincity-ng/music/default/01 - a.ogg": b"3",
        f"{games}/searchandrescue/sounds/hh60/rotor.wav": b"4",
        f"{games}/searchandrescue/music/in_flight.wav": b"5",
        "usr/share/scratch/Media/Sounds/Human/Cough.mp3": b"6",
        "usr/share/scratch/Media/Sounds/Vocals/Singer.wav": b"7",
        f"{moh}/cold_day.g722": b"8",
    }
    found = [(clip.kind, clip.word) for name in noise.KINDS for clip in clips_of(name, files)]
    assert found == [
        ("ambience", "Market1"),
        ("music", "default/01 - a"),
        ("sfx", "hh60/rotor"),
        ("sfx", "Human/Cough"),
        ("music", "cold_day"),
    ]
