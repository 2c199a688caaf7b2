"""What pyproject.toml cannot say: claims, slips and stored runs go into the wheel, for chapters without a checkout."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithTheBook(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:  # there the checkout itself is at hand
            return
        book = Path("book")
        for path in (book / "claims.yml", book / "slips.yml", *sorted((book / "runs").iterdir())):
            target = Path(self.build_lib, "tightrope", "book", "shelf", path.relative_to(book))
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))


setup(cmdclass={"build_py": WithTheBook})
