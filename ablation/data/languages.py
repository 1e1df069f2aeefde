"""The languages that a corpus may name, and the spellings under which they are accepted.

Inside the suite a language is its ISO 639-1 code. MINT's files spell languages in English; the
paper writes four of them with codes of its own (po, sp, du; zh, en, fr, it, ar, hi and ko are ISO's).
"""

from typing import Final

from ablation.core.errors import UsageError

#: ISO 639-1 code to English name: MINT's ten in the order of the paper's Table 2, then the other
#: languages of XLM-R's pre-training text, for corpora of one's own.
LANGUAGES: Final[dict[str, str]] = {
    "zh": "Chinese",
    "en": "English",
    "fr": "French",
    "it": "Italian",
    "pt": "Portuguese",
    "es": "Spanish",
    "ar": "Arabic",
    "nl": "Dutch",
    "hi": "Hindi",
    "ko": "Korean",
    "af": "Afrikaans",
    "sq": "Albanian",
    "am": "Amharic",
    "hy": "Armenian",
    "as": "Assamese",
    "az": "Azerbaijani",
    "eu": "Basque",
    "be": "Belarusian",
    "bn": "Bengali",
    "bs": "Bosnian",
    "br": "Breton",
    "bg": "Bulgarian",
    "my": "Burmese",
    "ca": "Catalan",
    "hr": "Croatian",
    "cs": "Czech",
    "da": "Danish",
    "eo": "Esperanto",
    "et": "Estonian",
    "fi": "Finnish",
    "gl": "Galician",
    "ka": "Georgian",
    "de": "German",
    "el": "Greek",
    "gu": "Gujarati",
    "ha": "Hausa",
    "he": "Hebrew",
    "hu": "Hungarian",
    "is": "Icelandic",
    "id": "Indonesian",
    "ga": "Irish",
    "ja": "Japanese",
    "jv": "Javanese",
    "kn": "Kannada",
    "kk": "Kazakh",
    "km": "Khmer",
    "ku": "Kurdish",
    "ky": "Kyrgyz",
    "lo": "Lao",
    "la": "Latin",
    "lv": "Latvian",
    "lt": "Lithuanian",
    "mk": "Macedonian",
    "mg": "Malagasy",
    "ms": "Malay",
    "ml": "Malayalam",
    "mr": "Marathi",
    "mn": "Mongolian",
    "ne": "Nepali",
    "no": "Norwegian",
    "or": "Oriya",
    "om": "Oromo",
    "ps": "Pashto",
    "fa": "Persian",
    "pl": "Polish",
    "pa": "Punjabi",
    "ro": "Romanian",
    "ru": "Russian",
    "sa": "Sanskrit",
    "gd": "Scottish Gaelic",
    "sr": "Serbian",
    "sd": "Sindhi",
    "si": "Sinhala",
    "sk": "Slovak",
    "sl": "Slovenian",
    "so": "Somali",
    "su": "Sundanese",
    "sw": "Swahili",
    "sv": "Swedish",
    "ta": "Tamil",
    "te": "Telugu",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "ur": "Urdu",
    "ug": "Uyghur",
    "uz": "Uzbek",
    "vi": "Vietnamese",
    "cy": "Welsh",
    "fy": "Western Frisian",
    "xh": "Xhosa",
    "yi": "Yiddish",
}

#: The paper's own codes where they differ from ISO 639-1 (its Table 2).
PAPER_CODES: Final[dict[str, str]] = {"po": "pt", "sp": "es", "du": "nl"}

_SPELLINGS: Final[dict[str, str]] = {
    **{name.lower(): code for code, name in LANGUAGES.items()},
    **{code: code for code in LANGUAGES},
    **PAPER_CODES,
}


def parse_language(text: str) -> str | None:
    """The ISO 639-1 code for an English name, an ISO code or one of the paper's codes, else None."""
    return _SPELLINGS.get(text.strip().lower())


def require_language(text: str) -> str:
    """Like `parse_language`, for arguments: raises UsageError for a language that is not known."""
    code = parse_language(text)
    if code is None:
        raise UsageError(
            f"unknown language {text!r}: give an English name or an ISO 639-1 code, such as French or fr"
        )
    return code


def ordered(codes: set[str]) -> list[str]:
    """`codes` in the order of the paper's Table 2, further languages behind them."""
    return [code for code in LANGUAGES if code in codes]
