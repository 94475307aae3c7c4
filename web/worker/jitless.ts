/** zod would try whether it may compile code, which the page's policy forbids and reports. Imported before all else. */
import * as z from 'zod';

z.config({ jitless: true });
