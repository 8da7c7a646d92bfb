"""The encoding of a file is told by its columns' names and by its letters, those of old Macs and of DOS too."""

from pathlib import Path

import pytest

from fintune_kit.bank.statements.text import decoded

GERMAN = "Date;Text;Amount\n04.03.2024;Bäckerei Müller Köln;-4,80\n05.03.2024;Gehalt März Straßenbau;2.100,00\n"
FRENCH = "Date;Text;Amount\n04/03/2024;CARTE Boulangerie des Prés à Épinal;-3,20\n05/03/2024;Hôtel du Chêne;-80,00\n"
DANISH = "Date;Text;Amount\n04.03.2024;Købmand på Ærø;-3,20\n05.03.2024;Løn Århus Rør;900,00\n"
CURLY = "Date;Text;Amount\n04/03/2024;Sainsbury’s – Leeds;-3.20\n05/03/2024;McDonald’s €2 “deal”;-2.00\n"
POLISH = "Date;Text;Amount\n04.03.2024;Żabka Łódź;-3,20\n05.03.2024;Księgarnia Świętokrzyska;-80,00\n"
RUSSIAN = "Дата операции;Описание;Сумма\n04.03.2024;Берёзка;-3,20\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((text, encoding) for text in (GERMAN, FRENCH, DANISH) for encoding in ("mac_roman", "cp1252", "cp850")),
        (CURLY, "cp1252"),
        *((POLISH, encoding) for encoding in ("cp1250", "iso8859-2", "cp852")),
        *((RUSSIAN, encoding) for encoding in ("cp1251", "mac_cyrillic", "cp866")),
    ],
)
def test_letters_tell_the_encoding(text: str, encoding: str) -> None:
    assert decoded(text.encode(encoding), path=Path("bank.csv")) == text


def test_an_old_macs_line_ends_and_known_names_are_read() -> None:
    text = "Date;Libellé;Débit;Crédit\r04/03/2024;CHEQUE;3,20;\r"
    assert decoded(text.encode("mac_roman"), path=Path("bank.csv")) == text
