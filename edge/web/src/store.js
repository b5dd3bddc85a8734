// What the viewer chose stays for the next visit, where the browser keeps it;
// where storage is off or full, a choice holds for this page.

export const store = {
  get(key) {
    try {
      return localStorage.getItem(`millrace.${key}`);
    } catch {
      return null;
    }
  },
  set(key, value) {
    try {
      if (value === null) localStorage.removeItem(`millrace.${key}`);
      else localStorage.setItem(`millrace.${key}`, value);
    } catch {
      // See above.
    }
  },
};
