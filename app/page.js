<script>
// Copy and Download of a recipe. The page is drawn anew while an answer streams, so the listener is the document's.
document.addEventListener("click", async (event) => {
  // On a phone the recipe is below the form.
  if (event.target.closest("#write") && window.innerWidth < 700) {
    document.querySelector("#answers").scrollIntoView({ behavior: "smooth" });
  }
  const button = event.target.closest("button[data-do]");
  if (!button) return;
  const tools = button.closest("[data-markdown]");
  const text = tools.dataset.markdown;
  const said = tools.querySelector("[role=status]");
  if (button.dataset.do === "save") {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/markdown" }));
    link.download = tools.dataset.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    said.textContent = "saved as " + tools.dataset.name;
    return;
  }
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = "copied";
  } catch {
    // Without HTTPS, on another machine than this one, browsers have no clipboard but this old way.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    said.textContent = document.execCommand("copy") ? "copied" : "this browser does not let a page copy";
    area.remove();
  }
});
</script>
