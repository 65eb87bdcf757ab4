"""The Debian packages that corpora are made of: version, size and SHA-256 of each .deb (Debian 12, `main`)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pin:
    version: str
    size: int  # bytes
    sha256: str


PINS = {
    "asterisk-core-sounds-en-g722": Pin(
        "1.6.1-1", 10_565_860, "38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806"
    ),
    "asterisk-core-sounds-es-g722": Pin(
        "1.6.1-1", 13_048_380, "e4e3b4281057d3b81b779298fd6be705f57411513955c518eed1bcaabbd615b8"
    ),
    "asterisk-core-sounds-fr-g722": Pin(
        "1.6.1-1", 10_822_860, "7add61d5e42279ecff1bbdf842a5a946ac3644fac9a0fe44384731aa7270c8e0"
    ),
    "asterisk-core-sounds-it-g722": Pin(
        "1.6.1-1", 10_087_176, "46b4cf7afc508a5fcfc051b7ea233251c0d195dd4ef83cc4b7facb4c6429b016"
    ),
    "asterisk-core-sounds-ru-g722": Pin(
        "1.6.1-1", 10_579_440, "673b4238a6b8269960f055d868c6a11083f7a0d00979167cb01554046b48ed9b"
    ),
    "asterisk-prompt-es-co": Pin(
        "0.20070403-2.1", 992_708, "6702696e045514699e87dc8fb70f370717e5df91f821f7bec8dd0df1be008e83"
    ),
    "asterisk-prompt-fr-armelle": Pin(
        "20070613-2.2", 1_496_780, "162570b1a9b3512a98f06b89f60c7c17cf1b9b52297315adca9a4e5be728bea3"
    ),
    "asterisk-prompt-it-menardi-wav": Pin(
        "1:1.4.22+mm20110907-3.1",
        18_776_300,
        "3094530d98f8758ac275572d59624c41f60969fef883f34f4886d144f3dfeb21",
    ),
    "festvox-ru": Pin(
        "0.5+dfsg-6", 178_728_512, "21ef3f0f2978ecf2e2eddb367cb0ff4a72572196d28dc69feb84f4177af5e6c4"
    ),
    "fillets-ng-data": Pin(
        "1.0.1-1.1", 70_633_484, "25de89afd8b1adf7bcace8290248a6a22c89cd42300317e69000e162c032cf84"
    ),
    "fillets-ng-data-cs": Pin(
        "1.0.1-1.1", 39_042_172, "3ecef99b9456f1c80c9625c6f2418642b52d58e7167a46bad7a412db17991b14"
    ),
    "fillets-ng-data-nl": Pin(
        "1.0.1-1.1", 32_593_580, "afb4443fda9ab507dee578b75be857d121718a1cd6017a474f30e0eb13dc9d10"
    ),
    "tuxpaint-stamps-default": Pin(
        "2022.06.04-1", 160_880_444, "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"
    ),
    "klettres-data": Pin(
        "4:22.12.3-1", 39_529_084, "1186d257a19e84230856baea0b0b1ded8be9195080fcdb2588970b5cd937f5a8"
    ),
    "ktuberling-data": Pin(
        "4:22.12.3-1", 46_661_752, "fba44c875bfa31ea488dadd9263e87a4dcaea0bd47d28817f6c0dc6d2af970ed"
    ),
    "gcin-voice": Pin(
        "0~20170223-3", 7_740_240, "6a0353f0294d06f7bd901bada3d5d9eec63b66c2ec029f92da3124d93d45de70"
    ),
    "lincity-ng-data": Pin(
        "2.9~git20150314-5", 44_782_216, "8f5e85bd42879abdc7099b035d7a3d7468eceb6b93b52a12270c28f3f3c792f9"
    ),
    "scratch": Pin(
        "1.4.0.6~dfsg1-6.1", 25_654_320, "36c582eb93110f64f06c4e685c41e933ccba2fa68db12f79b10bfe840b21fc10"
    ),
    "searchandrescue-data": Pin(
        "1.3.0-1.1", 46_517_968, "0036c09a92a90a2ce4ac3dde026bb90cc306cd1964f24749c0229926ff36d1d3"
    ),
    "asterisk-moh-opsound-g722": Pin(
        "2.03-1.1", 7_889_908, "8d6b39d6f2e8feff54a042c4a25e1b72f3e2478d05ee372c92f77446fa0b1671"
    ),
}
