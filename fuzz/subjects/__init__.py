"""The subjects, one file for each kind of input."""

from __future__ import annotations

from fuzz.subject import Subject
from fuzz.subjects.caches import HistoryLines, LibraryCacheFiles, ProbeAnswers, VerifiedStamps
from fuzz.subjects.chat_templates import ChatTemplates
from fuzz.subjects.checkpoints import Checkpoints, SafetensorsFiles
from fuzz.subjects.configs import ChatConfigFile, SourceConfig
from fuzz.subjects.gguf_files import GGUFFiles
from fuzz.subjects.libraries import LibraryRecords
from fuzz.subjects.manifests import Manifests
from fuzz.subjects.names import Names
from fuzz.subjects.prompts import Prompts, Settings
from fuzz.subjects.python_values import PythonValues
from fuzz.subjects.saved_chats import CacheFiles, SavedPaths, Transcripts
from fuzz.subjects.templates import Templates
from fuzz.subjects.tokenizers import SentencePieceModels, TokenizerFiles, TokenizerTexts

SUBJECTS: dict[str, type[Subject]] = {
    subject.name: subject
    for subject in (
        ChatConfigFile,
        SourceConfig,
        Manifests,
        SafetensorsFiles,
        Checkpoints,
        GGUFFiles,
        TokenizerFiles,
        SentencePieceModels,
        TokenizerTexts,
        Templates,
        ChatTemplates,
        Prompts,
        Settings,
        PythonValues,
        Transcripts,
        SavedPaths,
        CacheFiles,
        LibraryRecords,
        LibraryCacheFiles,
        ProbeAnswers,
        VerifiedStamps,
        HistoryLines,
        Names,
    )
}
"""Every subject by its name."""
