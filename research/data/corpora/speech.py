"""The Debian packages that hold speech, and how each names what is said."""

import html
import re
from collections.abc import Iterator

from research.data.corpora.clips import Clip, Segment
from research.data.corpora.packages import Files, Package

NOT_SPEECH = re.compile(
    r"/silence/|/(beep|beeperr|(a|de)scending-2tone|confbridge-(join|leave)|tt-monkeys)\.\w+$"
)
VOICES = {"es": "es_CO_f_July", "fr": "fr_f_Armelle"}  # prompt folders that do not name their voice
DIALOG = re.compile(
    r'dialogId\("(?P<id>[^"]+)",\s*"(?P<font>[^"]+)",\s*"(?:[^"\\]|\\.)*"\)\s*dialogStr\("(?P<text>(?:[^"\\]|\\.)*)"\)'
)


def asterisk(_: str, files: Files) -> Iterator[Clip]:
    """Telephone prompts: .../sounds/<voice>/<group>/<prompt>."""
    for name, data in files.items():
        voice, prompt = name.split("/sounds/")[1].rsplit(".", 1)[0].split("/", 1)
        if not NOT_SPEECH.search(name):
            yield Clip(
                key=prompt,
                file=name,
                data=data,
                kind=prompt.split("/")[0] if "/" in prompt else "prompt",
                word=prompt,
                lang=voice[:2],
                speaker=VOICES.get(voice, voice),
            )


def festvox(_: str, files: Files) -> Iterator[Clip]:
    """Read sentences with text and phones: .../wav/<id>.wav, .../lab/<id>.lab, .../etc/txt.done.data."""
    (index,) = (data for name, data in files.items() if name.endswith("txt.done.data"))
    texts = dict(re.findall(r'\(\s*(\S+)\s+"(.*)"\s*\)', index.decode()))
    for name, data in files.items():
        if name.endswith(".wav"):
            key = name.rsplit("/", 1)[1].removesuffix(".wav")
            phones = labels(files[name.replace("/wav/", "/lab/").replace(".wav", ".lab")].decode())
            text = texts[key].replace("+", "")  # marks stress
            yield Clip(
                key=key,
                file=name,
                data=data,
                kind="sentence",
                word=key,
                lang="ru",
                speaker="festvox-ru-nsh",
                text=text,
                phones=phones,
            )


def labels(text: str) -> list[Segment]:
    """Read an Xlabel file: after `#`, lines of end time, colour, label."""
    fields = [line.split() for line in text.split("#", 1)[1].splitlines() if line.strip()]
    ends = [round(float(end), 4) for end, _, _ in fields]
    return [(start, end, field[2]) for start, end, field in zip([0.0, *ends], ends, fields, strict=False)]


def fillets(package: str, files: Files) -> Iterator[Clip]:
    """Dialogues of a game: .../sound/<level>/<lang>/<id>.ogg, text in .../script/<level>/dialogs_<lang>.lua."""
    lang = package[-2:]
    lines = {}
    for name, data in files.items():
        if name.endswith(f"/dialogs_{lang}.lua"):
            level = name.split("/")[-2]
            for line in DIALOG.finditer(data.decode()):
                lines[level, line["id"]] = lines["", line["id"]] = line
    for name, data in files.items():
        if name.endswith(".ogg"):
            level, key = name.split("/")[-3], name.rsplit("/", 1)[1].removesuffix(".ogg")
            told = lines.get((level, key)) or lines.get(("", key))
            yield Clip(
                key=f"{level}/{key}",
                file=name,
                data=data,
                kind="dialog",
                word=f"{level}/{key}",
                lang=lang,
                speaker=f"fillets-{lang}-{told['font'].removeprefix('font_') if told else 'unknown'}",
                text=re.sub(r"\\(.)", r"\1", told["text"]) if told else "",
            )


def tuxpaint(_: str, files: Files) -> Iterator[Clip]:
    """Names of things: .../stamps/<thing>_desc[_<lang>].ogg, names in <thing>.txt, one language a line."""
    for name, data in files.items():
        found = re.search(r"stamps/(.*)_desc(?:_([A-Za-z_]+))?\.(?:ogg|wav)$", name)
        if found:
            thing, lang = found[1], found[2] or "en"
            names = (
                files.get(f"{name[: found.start(1)]}{thing}.txt", b"").decode("utf8", "replace").splitlines()
            )
            told = {"en": names[0]} if names else {}
            told |= dict(line.split(".utf8=", 1) for line in names if ".utf8=" in line)
            yield Clip(
                key=f"{lang}/{thing}",
                file=name,
                data=data,
                kind="object",
                word=thing,
                lang=lang.split("_")[0],
                speaker=f"tuxpaint-{lang}",
                text=told.get(lang, "").strip(),
            )


def klettres(_: str, files: Files) -> Iterator[Clip]:
    """Letters and syllables: .../klettres/<locale>/(alpha|syllab)/<name>.ogg, written in <locale>/sounds.xml."""
    texts: dict[str, str] = {}
    for name, data in files.items():
        if name.endswith("sounds.xml"):
            found = re.findall(r'name="([^"]*)"\s+file="([^"]*)"', data.decode("utf8", "replace"))
            texts |= {file: html.unescape(text) for text, file in found}
    for name, data in files.items():
        if name.endswith(".ogg"):
            path = name.split("/klettres/")[1]
            locale, kind, word = path.removesuffix(".ogg").split("/")
            yield Clip(
                key=f"{locale}/{kind}/{word}",
                file=name,
                data=data,
                kind=kind,
                word=word,
                lang=locale.split("_")[0],
                speaker=f"klettres-{locale}",
                text=texts.get(path, ""),
            )


def ktuberling(_: str, files: Files) -> Iterator[Clip]:
    """Names of things: .../sounds/<lang>/<thing>.ogg. `sr@...` repeat `sr`."""
    for name, data in files.items():
        lang, word = name.split("/sounds/")[1].rsplit(".", 1)[0].split("/", 1)
        if "@" not in lang:
            speaker = f"ktuberling-{lang}"
            yield Clip(
                key=f"{lang}/{word}",
                file=name,
                data=data,
                kind="object",
                word=word,
                lang=lang,
                speaker=speaker,
            )


def gcin(_: str, files: Files) -> Iterator[Clip]:
    """Mandarin syllables: .../ogg/<Zhuyin and tone>/<speaker>.ogg."""
    for name, data in files.items():
        word, voice = name.removesuffix(".ogg").split("/")[-2:]
        key, speaker = f"{word}/{voice}", f"gcin-{voice}"
        yield Clip(
            key=key, file=name, data=data, kind="syllable", word=word, lang="cmn", speaker=speaker, text=word
        )


PROMPTS = r"/asterisk/sounds/.*\.(g722|gsm|wav)$"
DIALOGS = r"/fillets-ng/sound/(?!music/)[^/]+/{0}/.*\.ogg$|/script/[^/]+/dialogs_{0}\.lua$"
MENARDI = "the sound files were made by Marco Menardi and Paola Dal Zot, http://www.voip.ammdomus.it"

PACKAGES = [
    *(
        Package(f"asterisk-core-sounds-{lang}-g722", PROMPTS, asterisk)
        for lang in ("en", "es", "fr", "it", "ru")
    ),
    Package("festvox-ru", r"/msu_ru_nsh_clunits/(wav/.*\.wav|lab/.*\.lab|etc/txt\.done\.data)$", festvox),
    Package("asterisk-prompt-es-co", PROMPTS, asterisk),
    Package("asterisk-prompt-fr-armelle", PROMPTS, asterisk),
    Package("asterisk-prompt-it-menardi-wav", PROMPTS, asterisk, credit=MENARDI),
    Package("fillets-ng-data-cs", DIALOGS.format("cs"), fillets, beside="fillets-ng-data"),
    Package("fillets-ng-data-nl", DIALOGS.format("nl"), fillets, beside="fillets-ng-data"),
    Package("tuxpaint-stamps-default", r"/tuxpaint/stamps/.*(_desc.*\.(ogg|wav)|\.txt)$", tuxpaint),
    Package("klettres-data", r"/klettres/[^/]+/((alpha|syllab)/.*\.ogg|sounds\.xml)$", klettres),
    Package("ktuberling-data", r"/ktuberling/sounds/[^/]+/.*\.(ogg|wav|opus)$", ktuberling),
    Package("gcin-voice", r"/gcin-voice/ogg/[^/]+/[35]\.ogg$", gcin),
]
