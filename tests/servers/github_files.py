"""A GitHub that also serves files of repositories at commits, and an organisation's repositories, as its REST description has them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from urllib.parse import unquote

from tests.servers import github_documents as documents
from tests.servers.github import Answer, GitHubServer, Request, _not_found

Tree = Mapping[str, bytes]


class FilesServer(GitHubServer):
    """`github.put("org/.github", {"modelguard.yml": b"…"})` makes a commit on main and gives its id."""

    def __init__(self, *, token: str = "a-token", page: int = 30) -> None:
        super().__init__(token=token, page=page)
        self.repositories: dict[str, dict[str, Tree]] = {}
        self.refs: dict[tuple[str, str], str] = {}
        self.archived: set[str] = set()

    def __enter__(self) -> FilesServer:
        super().__enter__()
        return self

    def put(self, repository: str, files: Tree, branch: str = "main") -> str:
        commits = self.repositories.setdefault(repository, {})
        commit = hashlib.sha1(f"{repository} {len(commits)}".encode()).hexdigest()
        commits[commit] = dict(files)
        self.refs[repository, branch] = commit
        return commit

    def _route(self, request: Request, headers: Mapping[str, str]) -> Answer:
        repository = r"/repos/([^/]+/[^/]+)"
        for pattern, action in ((rf"{repository}/commits/([^/]+)", self._commit), (rf"{repository}/contents/([^/]+)", self._file)):
            match = re.fullmatch(pattern, request.path)
            if match and request.method == "GET":
                return action(request, match[1], unquote(match[2]))
        if match := re.fullmatch(r"/orgs/([^/]+)/repos", request.path):
            return self._of_organisation(request, match[1])
        return super()._route(request, headers)

    def _named(self, repository: str, ref: str) -> str | None:
        return ref if ref in self.repositories.get(repository, {}) else self.refs.get((repository, ref))

    def _commit(self, request: Request, repository: str, ref: str) -> Answer:
        if repository not in self.repositories:
            return _not_found()
        commit = self._named(repository, ref)
        if commit is None:
            address = "https://docs.github.com/rest/commits/commits#get-a-commit"
            return Answer(422, {"message": f"No commit found for SHA: {ref}", "documentation_url": address})
        ours = {"sha": commit, "url": f"{self.url}{request.path}", "files": []}  # the published example lacks required keys of a file
        return Answer(200, documents.merged("commit", ours))

    def _file(self, request: Request, repository: str, path: str) -> Answer:
        commit = self._named(repository, request.query.get("ref", "main"))
        tree = self.repositories.get(repository, {}).get(commit or "")
        if tree is None:
            return _not_found()
        if path not in tree:
            below = [name for name in tree if name.startswith(f"{path}/")]
            return Answer(200, [self._entry(request, name, tree[name]) for name in below]) if below else _not_found()
        data = tree[path]
        small = {"encoding": "base64", "content": base64.encodebytes(data).decode()}
        content = small if len(data) < 1 << 20 else {"encoding": "none", "content": ""}
        return Answer(200, {**self._entry(request, path, data), **content})

    def _entry(self, request: Request, path: str, data: bytes) -> dict[str, object]:
        """A file as a directory lists it: without its content."""
        here = f"{self.url}{request.path}"
        named = {"type": "file", "name": path.rpartition("/")[2], "path": path, "size": len(data), "sha": hashlib.sha1(data).hexdigest()}
        links = {"self": here, "git": here, "html": here}
        return {**named, "url": here, "git_url": here, "html_url": here, "download_url": here, "_links": links}

    def _of_organisation(self, request: Request, organisation: str) -> Answer:
        names = sorted(name for name in self.repositories if name.startswith(f"{organisation}/"))
        page, size = int(request.query.get("page", "1")), min(int(request.query.get("per_page", "30")), self.page)
        last = max(1, -(-len(names) // size))
        base = f"{self.url}{request.path}?per_page={size}"
        links = [f'<{base}&page={page + 1}>; rel="next"', f'<{base}&page={last}>; rel="last"'] if page < last else []
        here = [self._repository(name) for name in names[(page - 1) * size : page * size]]
        return Answer(200, here, {"Link": ", ".join(links)} if links else {})

    def _repository(self, name: str) -> dict[str, object]:
        ours = {"name": name.partition("/")[2], "full_name": name, "default_branch": "main", "archived": name in self.archived}
        return documents.merged("minimal-repository-items", ours)
