"""Forty questions that a small assistant may answer, each with what a right answer has in it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A question and how a right answer is known.

    Args:
        text: the question.
        answer: a regular expression that a right answer has a match of, in upper or lower case.
    """

    text: str
    answer: str

    def is_answered(self, text: str) -> bool:
        """Whether a text has the right answer in it."""
        return re.search(self.answer, text, re.IGNORECASE) is not None


QUESTIONS = tuple(
    Question(text, answer)
    for text, answer in [
        ("What is the capital of France?", r"\bParis\b"),
        ("What is the capital of Japan?", r"\bTokyo\b"),
        ("What is the capital of Italy?", r"\bRome\b"),
        ("What is the capital of Egypt?", r"\bCairo\b"),
        ("What is the capital of Germany?", r"\bBerlin\b"),
        ("What is the largest ocean on Earth?", r"\bPacific\b"),
        ("What is the largest planet of the solar system?", r"\bJupiter\b"),
        ("Which planet is known as the red planet?", r"\bMars\b"),
        ("Which planet is nearest to the Sun?", r"\bMercury\b"),
        ("How many days are in a week?", r"\b(7|seven)\b"),
        ("How many months are in a year?", r"\b(12|twelve)\b"),
        ("How many minutes are in an hour?", r"\b(60|sixty)\b"),
        ("How many legs does a spider have?", r"\b(8|eight)\b"),
        ("How many continents are there?", r"\b(7|seven)\b"),
        ("How many sides does a triangle have?", r"\b(3|three)\b"),
        ("What is 2 + 2?", r"\b(4|four)\b"),
        ("What is 5 times 3?", r"\b(15|fifteen)\b"),
        ("What is 10 minus 4?", r"\b(6|six)\b"),
        ("What is half of 20?", r"\b(10|ten)\b"),
        ("What color is the sky on a clear day?", r"\bblue\b"),
        ("What color is grass?", r"\bgreen\b"),
        ("What color do you get when you mix blue and yellow?", r"\bgreen\b"),
        ("What do bees make?", r"\bhoney\b"),
        ("What do cows drink and what do they give us?", r"\bmilk\b"),
        ("What gas do plants take in from the air?", r"\bcarbon dioxide\b|\bCO2\b"),
        ("What gas do people need to breathe?", r"\boxygen\b"),
        ("What is the chemical formula of water?", r"H2O|H₂O"),
        ("What is the chemical symbol of gold?", r"\bAu\b"),
        ("At what temperature in degrees Celsius does water boil?", r"\b100\b"),
        ("At what temperature in degrees Celsius does water freeze?", r"\b(0|zero)\b"),
        ("Who wrote Romeo and Juliet?", r"\bShakespeare\b"),
        ("Who painted the Mona Lisa?", r"\bLeonardo\b|\bda Vinci\b"),
        ("Who was the first president of the United States?", r"\bWashington\b"),
        ("Who developed the theory of relativity?", r"\bEinstein\b"),
        ("Who was the first person to walk on the Moon?", r"\bArmstrong\b"),
        ("In which country are the pyramids of Giza?", r"\bEgypt\b"),
        ("On which continent is Brazil?", r"\bSouth America\b"),
        ("What language is spoken in Spain?", r"\bSpanish\b"),
        ("What is the opposite of hot?", r"\bcold\b"),
        ("What is the star at the center of the solar system?", r"\bSun\b"),
    ]
)
